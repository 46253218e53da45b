//! Values for the parameters of a strategy: `strategy.params.alpha=0:2:0.05`.

use std::{fmt, str::FromStr};

use logitfuse_core::{Error, ErrorKind, Result};
use serde_json::{Map, Number, Value};

use logitfuse_config::StrategyConfig;

/// As many points as anybody waits for; a step that was typed wrong gives more.
const MOST_POINTS: usize = 10_000;

/// A parameter with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `strategy.params.alpha`, `strategy.gate.max_prob`, `strategy.params.weights.0`; `alpha` is short for the first.
    pub path: String,
    /// The value.
    pub value: f64,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

impl Setting {
    /// Puts the value into a strategy's configuration.
    ///
    /// ```
    /// use logitfuse_config::StrategyConfig;
    /// use logitfuse_tape::Setting;
    ///
    /// let mut strategy = StrategyConfig::default();
    /// Setting { path: "alpha".into(), value: 0.5 }.apply(&mut strategy)?;
    /// Setting { path: "strategy.gate.max_prob".into(), value: 0.3 }.apply(&mut strategy)?;
    /// assert_eq!((strategy.params["alpha"].as_f64(), strategy.gate.unwrap()["max_prob"].as_f64()), (Some(0.5), Some(0.3)));
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a path that is not within the strategy's parameters, schedule or gate.
    pub fn apply(&self, strategy: &mut StrategyConfig) -> Result<()> {
        let wrong = |what: &str| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("{}: {what}", self.path))
                .with_help("write strategy.params.NAME, strategy.schedule.NAME or strategy.gate.NAME"))
        };
        let full = full(&self.path);
        let mut keys = full.split('.').skip(1);
        let table = match keys.next() {
            Some("params") => &mut strategy.params,
            Some("schedule") => strategy.schedule.get_or_insert_default(),
            Some("gate") => strategy.gate.get_or_insert_default(),
            _ => return wrong("no parameter of a strategy"),
        };
        let Some(first) = keys.next() else { return wrong("no parameter, but a table of them") };
        let mut place = table.entry(first).or_insert(Value::Null);
        for key in keys {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            place = match place {
                Value::Object(table) => table.entry(key).or_insert(Value::Null),
                Value::Array(list) => match key.parse::<usize>().ok().and_then(|at| list.get_mut(at)) {
                    Some(entry) => entry,
                    None => return wrong("the list has no such entry"),
                },
                _ => return wrong("what lies on the way is a plain value"),
            };
        }
        match number(self.value) {
            Some(value) => *place = Value::Number(value),
            None => return wrong("must be finite"),
        }
        Ok(())
    }

    /// The table of the TOML that the parameter is in, and the key of that table which it is, or is a part of.
    pub(super) fn place(&self) -> (String, String) {
        let full = full(&self.path);
        let mut keys = full.split('.');
        let table = format!("{}.{}", keys.next().unwrap_or_default(), keys.next().unwrap_or_default());
        (table, keys.next().unwrap_or_default().to_owned())
    }

    /// What a configuration has there now.
    pub(super) fn current(path: &str, strategy: &StrategyConfig) -> Option<f64> {
        let full = full(path);
        let mut keys = full.split('.').skip(1);
        let table = match keys.next()? {
            "params" => &strategy.params,
            "schedule" => strategy.schedule.as_ref()?,
            "gate" => strategy.gate.as_ref()?,
            _ => return None,
        };
        let first = table.get(keys.next()?)?;
        keys.try_fold(first, |place, key| place.get(key).or_else(|| place.get(key.parse::<usize>().ok()?)))?.as_f64()
    }
}

fn full(path: &str) -> String {
    if path.contains('.') { path.to_owned() } else { format!("strategy.params.{path}") }
}

/// Whole numbers without a point, so that parameters that count things take them, too.
fn number(value: f64) -> Option<Number> {
    #[expect(clippy::cast_possible_truncation, reason = "a whole number of this size is an i64")]
    let whole = (value.fract() == 0.0 && value.abs() < 9e15).then_some(value as i64);
    whole.map(Number::from).or_else(|| Number::from_f64(value))
}

/// Two ends of a parameter, `0:2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let ends = text.split_once(':').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        match ends {
            Some((low, high)) if f64::is_finite(low) && f64::is_finite(high) && low < high => Ok(Self { low, high }),
            _ => Err(Error::new(ErrorKind::InvalidConfig, format!("{text}: no range"))
                .with_help("write LOW:HIGH with LOW below HIGH, such as 0:2")),
        }
    }
}

/// Values of one parameter: `PATH=FROM:TO:STEP`, both ends included, or a list `PATH=0,0.5,1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// As [`Setting::path`].
    pub path: String,
    /// The values.
    pub values: Vec<f64>,
}

impl FromStr for Grid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::InvalidConfig, format!("{text}: {what}"))
                .with_help("write PATH=FROM:TO:STEP, such as alpha=0:2:0.05, or PATH=0,0.5,1")
        };
        let (path, values) = text.split_once('=').ok_or_else(|| wrong("no grid"))?;
        let number = |text: &str| match text.trim().parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(x),
            _ => Err(wrong("not made of numbers")),
        };
        let parts: Vec<&str> = values.split(':').collect();
        let values = match parts[..] {
            [list] => list.split(',').map(number).collect::<Result<Vec<f64>>>()?,
            [from, to, step] => spread(number(from)?, number(to)?, number(step)?)
                .ok_or_else(|| wrong(&format!("the step leads nowhere, or to more than {MOST_POINTS} points")))?,
            _ => return Err(wrong("no grid")),
        };
        Ok(Self { path: path.trim().to_owned(), values })
    }
}

/// From one end to the other; what is left of the last step, up to a thousandth, is rounding.
fn spread(from: f64, to: f64, step: f64) -> Option<Vec<f64>> {
    let steps = (to - from) / step;
    if !(steps >= 0.0 && steps < MOST_POINTS as f64) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the most points")]
    let last = (steps + 1e-3).floor() as usize;
    // Multiples, not sums, and at the digits that were typed: 0.15, not 0.15000000000000002.
    Some((0..=last).map(|i| tidy(from + i as f64 * step)).collect())
}

/// Without the noise beyond twelve digits.
pub(super) fn tidy(x: f64) -> f64 {
    format!("{x:.12}").parse().unwrap_or(x)
}

impl Grid {
    /// Every combination of the values of several grids, the last one varying fastest; one without any setting if there
    /// is no grid.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if there are too many.
    pub fn product(grids: &[Self]) -> Result<Vec<Vec<Setting>>> {
        let points = grids.iter().try_fold(1_usize, |points, grid| points.checked_mul(grid.values.len()));
        if points.is_none_or(|points| points > MOST_POINTS) {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("--grid: more than {MOST_POINTS} points"))
                .with_help("take larger steps, or one parameter at a time"));
        }
        let mut all = vec![Vec::new()];
        for grid in grids {
            let with = |settings: &Vec<Setting>, value: f64| {
                let mut settings = settings.clone();
                settings.push(Setting { path: grid.path.clone(), value });
                settings
            };
            all = all.iter().flat_map(|settings| grid.values.iter().map(move |&value| with(settings, value))).collect();
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_holds_both_ends_and_what_was_typed() {
        let grid: Grid = "alpha=0:2:0.05".parse().unwrap();
        assert_eq!(grid.values.len(), 41);
        assert_eq!((grid.values[3], grid.values[40]), (0.15, 2.0));
        assert_eq!("a=1:-1:-0.5".parse::<Grid>().unwrap().values, [1.0, 0.5, 0.0, -0.5, -1.0]);
        assert_eq!("a=3,1".parse::<Grid>().unwrap().values, [3.0, 1.0]);
        for wrong in ["a", "a=", "a=0:1", "a=0:1:0", "a=0:1:-1", "a=0:1:1e-9", "a=x", "a=0:inf:1", "a=1:2:3:4"] {
            assert!(wrong.parse::<Grid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn grids_multiply() {
        let grids = ["a=0,1".parse().unwrap(), "b=2,3".parse().unwrap()];
        let all = Grid::product(&grids).unwrap();
        let shown: Vec<String> = all.iter().map(|point| format!("{} {}", point[0], point[1])).collect();
        assert_eq!(shown, ["a=0 b=2", "a=0 b=3", "a=1 b=2", "a=1 b=3"]);
        assert_eq!(Grid::product(&[]).unwrap(), [Vec::new()]);
    }

    #[test]
    fn a_setting_finds_its_place() {
        let mut strategy = StrategyConfig::default();
        let set =
            |strategy: &mut StrategyConfig, path: &str, value| Setting { path: path.to_owned(), value }.apply(strategy);
        strategy.params.insert("weights".to_owned(), serde_json::json!([1.0, 2.0]));
        set(&mut strategy, "strategy.params.weights.1", 0.25).unwrap();
        set(&mut strategy, "strategy.params.posterior.eta", 2.0).unwrap();
        assert_eq!(strategy.params["weights"], serde_json::json!([1.0, 0.25]));
        assert_eq!(strategy.params["posterior"]["eta"], 2, "whole numbers have no point");
        assert_eq!(Setting::current("strategy.params.weights.1", &strategy), Some(0.25));
        assert_eq!(Setting::current("strategy.gate.max_prob", &strategy), None);
        for wrong in
            ["run.seed", "strategy.use", "strategy.params", "strategy.params.weights.9", "strategy.params.weights.1.x"]
        {
            assert!(set(&mut strategy, wrong, 1.0).is_err(), "{wrong}");
        }
    }
}
