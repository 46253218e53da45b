use logitfuse_core::{Error, ErrorKind, Result};
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
    /// Masks every id whose probability under the base is below this times that of the base's favourite; off when absent.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub plausibility: Option<f64>,
}

impl Default for Params {
    fn default() -> Self {
        Self { alpha: 1.0, weights: None, base_weight: 1.0, plausibility: None }
    }
}

impl Params {
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        // A list would pass for the fields in their order.
        if !value.is_object() {
            return Err(invalid("", "must be a table of names and values"));
        }
        serde_path_to_error::deserialize(value).map_err(|e| invalid(&pointer(e.path()), e.inner()))
    }

    pub(crate) fn check(&self) -> Result<()> {
        // Written so that NaN fails every one of them.
        if !self.alpha.is_finite() {
            return Err(invalid("/alpha", "must be finite"));
        }
        for (index, weight) in self.weights.iter().flatten().enumerate() {
            if !weight.is_finite() {
                return Err(invalid(&format!("/weights/{index}"), "must be finite"));
            }
        }
        if !(self.base_weight >= 0.0 && self.base_weight.is_finite()) {
            return Err(invalid("/base_weight", "must be 0 or more, and finite"));
        }
        if self.plausibility.is_some_and(|p| !(p > 0.0 && p <= 1.0)) {
            return Err(invalid("/plausibility", "must be above 0 and at most 1"));
        }
        Ok(())
    }
}

fn invalid(pointer: &str, what: impl std::fmt::Display) -> Error {
    let pointer = if pointer.is_empty() { "params" } else { pointer };
    Error::new(ErrorKind::InvalidConfig, format!("{pointer}: {what}"))
        .with_help("static-proxy takes alpha, weights, base_weight and plausibility")
}

/// The path of a parameter as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                Some(format!("/{}", key.replace('~', "~0").replace('/', "~1")))
            }
            Segment::Unknown => None,
        })
        .collect()
}
