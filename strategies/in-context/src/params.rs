use logitfuse_core::{Error, Result, params, params::invalid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Which difference is amplified; see the [crate's page](crate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Context-aware decoding: away from the prompt without the passage.
    #[default]
    Cad,
    /// Adaptive context-aware decoding: as `cad`, as strongly as the two prompts disagree at this token.
    Adacad,
    /// Classifier-free guidance: away from the negative or empty prompt.
    Cfg,
    /// A small model's in-context learning, added to a large model.
    IclExpert,
}

/// The parameters of [`InContext`](crate::InContext), as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_in_context::InContext;
/// use serde_json::json;
///
/// assert!(InContext::from_json(&json!({ "mode": "cfg", "gamma": 2.0 })).is_ok());
/// let error = InContext::from_json(&json!({ "mode": "cad", "gamma": 2.0 })).unwrap_err();
/// assert_eq!(error.to_string(), "/gamma: mode cad has no such parameter");
/// assert_eq!(error.help(), Some("use alpha, where 0 means no fusion"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("allOf" = [
    params::only_with("mode", &json!([null, "cad", "icl_expert"]), ["alpha"]),
    params::only_with("mode", &json!(["cfg"]), ["gamma"]),
    params::only_with("mode", &json!(["adacad"]), ["floor"]),
]))]
pub struct Params {
    /// Which difference is amplified.
    pub mode: Mode,
    /// Strength for `cad` (0.5 when absent) and `icl_expert` (1 when absent); 0 is the base alone.
    pub alpha: Option<f64>,
    /// Strength for `cfg` (1.5 when absent); 1 is the base alone, 0 the negative prompt alone.
    pub gamma: Option<f64>,
    /// Least strength for `adacad` (0 when absent), in nats as its divergence, which is 0.693 (log 2) at most.
    #[schemars(range(min = 0.0), extend("unit" = "nats"))]
    pub floor: Option<f64>,
    /// Masks every id whose probability under the base is below this times that of the base's most probable token; off when absent.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub plausibility: Option<f64>,
}

/// Where the factor of the difference that is added to the base comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strength {
    Fixed(f64),
    /// The divergence of the two prompts' distributions at this token, and no less than `floor`.
    Divergence {
        floor: f64,
    },
}

impl Params {
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        params::parse(value).map_err(|e| {
            e.with_help("in-context takes mode, plausibility, and alpha, floor or gamma, as the mode has it")
        })
    }

    pub(crate) fn strength(&self) -> Result<Strength> {
        self.only_what_the_mode_has()?;
        if let Some(plausibility) = self.plausibility {
            params::fraction("/plausibility", plausibility)
                .map_err(|e| e.with_help("0.1 is usual; leave it out to mask nothing"))?;
        }
        let usual = |e: Error| e.with_help("any finite number is allowed, 0.5 to 2 is usual");
        let alpha = |default| params::finite("/alpha", self.alpha.unwrap_or(default)).map_err(usual);
        Ok(match self.mode {
            Mode::Cad => Strength::Fixed(alpha(0.5)?),
            Mode::IclExpert => Strength::Fixed(alpha(1.0)?),
            Mode::Cfg => Strength::Fixed(params::finite("/gamma", self.gamma.unwrap_or(1.5)).map_err(usual)? - 1.0),
            Mode::Adacad => Strength::Divergence {
                floor: params::not_negative("/floor", self.floor.unwrap_or(0.0))
                    .map_err(|e| e.with_help("0 or more nats; 0.3 is usual for long answers, 0 for short ones"))?,
            },
        })
    }

    fn only_what_the_mode_has(&self) -> Result<()> {
        let (mode, own, remedy) = match self.mode {
            Mode::Cad => ("cad", "/alpha", "use alpha, where 0 means no fusion"),
            Mode::IclExpert => ("icl_expert", "/alpha", "use alpha, where 0 means no fusion"),
            Mode::Cfg => ("cfg", "/gamma", "use gamma, where 1 means no fusion"),
            Mode::Adacad => ("adacad", "/floor", "use floor, the least strength; the rest is found at every token"),
        };
        let given = [("/alpha", self.alpha), ("/gamma", self.gamma), ("/floor", self.floor)];
        match given.into_iter().find(|&(pointer, value)| value.is_some() && pointer != own) {
            Some((pointer, _)) => {
                Err(invalid(pointer, format_args!("mode {mode} has no such parameter")).with_help(remedy))
            }
            None => Ok(()),
        }
    }
}
