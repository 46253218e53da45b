use logitfuse_core::{Result, params, params::invalid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which difference is amplified; see the [crate's page](crate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Context-aware decoding: away from the prompt without the passage.
    #[default]
    Cad,
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
pub struct Params {
    /// Which difference is amplified.
    pub mode: Mode,
    /// Strength for `cad` (0.5 when absent) and `icl_expert` (1 when absent); 0 is the base alone.
    pub alpha: Option<f64>,
    /// Strength for `cfg` (1.5 when absent); 1 is the base alone, 0 the negative prompt alone.
    pub gamma: Option<f64>,
    /// Masks every id whose probability under the base is below this times that of the base's favourite; off when absent.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub plausibility: Option<f64>,
}

impl Params {
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        params::parse(value).map_err(|e| e.with_help("in-context takes mode, alpha or gamma, and plausibility"))
    }

    /// The factor of the difference that is added to the base.
    pub(crate) fn strength(&self) -> Result<f64> {
        let strength = match self.mode {
            Mode::Cad => self.alpha("cad", 0.5)?,
            Mode::IclExpert => self.alpha("icl_expert", 1.0)?,
            Mode::Cfg => self.gamma()? - 1.0,
        };
        if let Some(plausibility) = self.plausibility {
            params::fraction("/plausibility", plausibility)
                .map_err(|e| e.with_help("0.1 is usual; leave it out to mask nothing"))?;
        }
        Ok(strength)
    }

    fn alpha(&self, mode: &str, default: f64) -> Result<f64> {
        if self.gamma.is_some() {
            return Err(invalid("/gamma", format_args!("mode {mode} has no such parameter"))
                .with_help("use alpha, where 0 means no fusion"));
        }
        finite("/alpha", self.alpha.unwrap_or(default))
    }

    fn gamma(&self) -> Result<f64> {
        if self.alpha.is_some() {
            return Err(
                invalid("/alpha", "mode cfg has no such parameter").with_help("use gamma, where 1 means no fusion")
            );
        }
        finite("/gamma", self.gamma.unwrap_or(1.5))
    }
}

fn finite(pointer: &str, x: f64) -> Result<f64> {
    params::finite(pointer, x).map_err(|e| e.with_help("0.5 to 2 is usual"))
}
