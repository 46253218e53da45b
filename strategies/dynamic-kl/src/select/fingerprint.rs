//! The choice of an expert for a prompt, by the distributions of the small models at its end.

use std::sync::Arc;

use logitfuse_core::numerics::{jensen_shannon, ln, log_sum_exp, softmax};
use logitfuse_core::{CalibrationRows, Error, ErrorKind, Result, RoleRow, SessionInfo};

use super::Selector;
use crate::{StepRows, roles::Roles};

/// The mean distributions of the small models, antis and experts, after each expert's kind of prompt.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    /// The rows of the small models.
    models: Vec<usize>,
    /// One per expert.
    experts: Vec<Fingerprint>,
}

#[derive(Debug)]
struct Fingerprint {
    /// The mean distribution of each model.
    centres: Vec<Distribution>,
    /// How far the farthest of the expert's own prompts is from the mean of the others, in nats.
    radius: f64,
}

#[derive(Debug)]
struct Distribution {
    logits: Vec<f32>,
    log_normaliser: f64,
}

impl Fingerprints {
    /// Fits fingerprints to the rows after every expert's own prompts.
    pub(crate) fn fit(
        session: &SessionInfo,
        roles: &Roles,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Self> {
        let models = roles.small_models();
        let fit = |expert: usize| {
            let binding = roles.expert(expert);
            let source = &session.bindings[binding].source;
            Fingerprint::fit(&models, &rows_after(binding)?, source)
        };
        let experts = (0..roles.experts()).map(fit).collect::<Result<_>>()?;
        Ok(Self { models, experts })
    }

    /// The nearest expert, the first of equals, with its distance; no expert if that is too far.
    fn choose(&self, rows: &StepRows<'_>, slack: f64) -> Choice {
        let mut nearest = (0, f64::INFINITY);
        for (expert, fingerprint) in self.experts.iter().enumerate() {
            let nats = fingerprint.distance(&self.models, rows);
            if nats < nearest.1 {
                nearest = (expert, nats);
            }
        }
        let (expert, nats) = nearest;
        let fits = nats <= slack * self.experts[expert].radius;
        Choice { expert: fits.then_some(expert), nats }
    }
}

impl Fingerprint {
    fn fit(models: &[usize], rows: &CalibrationRows, source: &str) -> Result<Self> {
        let prompts = rows.prompts();
        if prompts < 2 {
            let what =
                format!("source `{source}`: {prompts} calibration prompt, and a fingerprint is made of two or more");
            return Err(Error::new(ErrorKind::InvalidData, what).with_help("16 unlabelled prompts of its kind do well"));
        }
        let mut distances = vec![0.0; prompts];
        let mut centres = Vec::new();
        for &model in models {
            let of = |prompt: usize| {
                rows.row(prompt, model).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, format!("source `{source}`: a calibration prompt was not run"))
                })
            };
            let width = of(0)?.logits().len();
            let mut probabilities = vec![0.0_f32; width];
            let mut total = vec![0.0_f64; width];
            for prompt in 0..prompts {
                let row = of(prompt)?;
                softmax(row.logits(), row.log_normaliser, &mut probabilities);
                total.iter_mut().zip(&probabilities).for_each(|(total, &p)| *total += f64::from(p));
            }
            for (prompt, distance) in distances.iter_mut().enumerate() {
                let row = of(prompt)?;
                softmax(row.logits(), row.log_normaliser, &mut probabilities);
                let others = total.iter().zip(&probabilities).map(|(total, &p)| (total - f64::from(p)).max(0.0));
                *distance += Distribution::mean(others, prompts - 1).distance(&row);
            }
            centres.push(Distribution::mean(total.iter().copied(), prompts));
        }
        Ok(Self { centres, radius: distances.into_iter().fold(0.0, f64::max) })
    }

    fn distance(&self, models: &[usize], rows: &StepRows<'_>) -> f64 {
        models.iter().zip(&self.centres).map(|(&model, centre)| centre.distance(rows.row(model))).sum()
    }
}

impl Distribution {
    /// From sums of probabilities over so many distributions.
    #[expect(clippy::cast_possible_truncation, reason = "rows are f32, and a probability is at most 1")]
    fn mean(sums: impl Iterator<Item = f64>, count: usize) -> Self {
        let log = |sum: f64| if sum > 0.0 { ln((sum / count as f64) as f32) } else { f32::NEG_INFINITY };
        let logits: Vec<f32> = sums.map(log).collect();
        let log_normaliser = log_sum_exp(&logits);
        Self { logits, log_normaliser }
    }

    fn distance(&self, row: &RoleRow<'_>) -> f64 {
        jensen_shannon(row.logits(), row.log_normaliser, &self.logits, self.log_normaliser)
    }
}

/// The expert of a whole text.
#[derive(Clone, Copy, Debug)]
struct Choice {
    expert: Option<usize>,
    /// How far the prompt is from the nearest expert's.
    nats: f64,
}

/// The selector that gives all weight to the expert whose prompts are nearest, or to none.
#[derive(Clone)]
pub(crate) struct Nearest {
    fingerprints: Arc<Fingerprints>,
    /// How many times its radius an expert reaches.
    slack: f64,
    choice: Choice,
}

impl Nearest {
    pub(crate) fn new(fingerprints: Arc<Fingerprints>, slack: f64) -> Self {
        Self { fingerprints, slack, choice: Choice { expert: None, nats: f64::NAN } }
    }
}

impl Selector for Nearest {
    fn begin(&mut self, rows: &StepRows<'_>) {
        self.choice = self.fingerprints.choose(rows, self.slack);
    }

    fn weigh(&mut self, _scene: &StepRows<'_>, weights: &mut [f64]) -> f64 {
        weights.fill(0.0);
        let Some(expert) = self.choice.expert else { return 1.0 };
        weights[expert] = 1.0;
        0.0
    }

    fn trace(&self, columns: &mut [f64]) {
        if let [selected, distance] = columns {
            *selected = self.choice.expert.map_or(-1.0, |expert| expert as f64);
            *distance = self.choice.nats;
        }
    }

    fn fork(&self) -> Box<dyn Selector> {
        Box::new(self.clone())
    }
}
