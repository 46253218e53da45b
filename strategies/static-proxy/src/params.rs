use logitfuse_core::{Error, Result, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The parameters of [`StaticProxy`](crate::StaticProxy), as a TOML or JSON gives them.
///
/// ```
/// use logitfuse_static_proxy::StaticProxy;
/// use serde_json::json;
///
/// assert!(StaticProxy::from_json(&json!({ "alpha": 1.5, "plausibility": 0.1 })).is_ok());
/// let error = StaticProxy::from_json(&json!({ "weights": [1.0, "much"] })).unwrap_err();
/// assert!(error.to_string().starts_with("/weights/1: "));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The strength of the experts: 0 is the base alone, 1 proxy tuning as published.
    pub alpha: f64,
    /// One factor for each expert, in their order; 1 for every expert when absent. Factors need not add up to 1.
    pub weights: Option<Vec<f64>>,
    /// The factor of the base's logits. Below 1 the small models take over, as suits them where they know more.
    #[schemars(range(min = 0.0))]
    pub base_weight: f64,
    /// Masks every id whose probability under the base is below this times that of the base's most probable token; off when absent.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub plausibility: Option<f64>,
    /// Keeps only the base's nucleus: its most probable ids that together hold this mass, ties included; off when absent.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub top_p: Option<f64>,
}

impl Default for Params {
    fn default() -> Self {
        Self { alpha: 1.0, weights: None, base_weight: 1.0, plausibility: None, top_p: None }
    }
}

impl Params {
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        params::parse(value).map_err(with_help)
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.in_range().map_err(with_help)
    }

    fn in_range(&self) -> Result<()> {
        params::finite("/alpha", self.alpha)?;
        for (index, &weight) in self.weights.iter().flatten().enumerate() {
            params::finite(&format!("/weights/{index}"), weight)?;
        }
        params::not_negative("/base_weight", self.base_weight)?;
        if let Some(plausibility) = self.plausibility {
            params::fraction("/plausibility", plausibility)?;
        }
        if let Some(top_p) = self.top_p {
            params::fraction("/top_p", top_p)?;
        }
        Ok(())
    }
}

fn with_help(error: Error) -> Error {
    error.with_help("static-proxy takes alpha and weights (any finite numbers), base_weight (0 or more), plausibility and top_p (above 0, at most 1)")
}
