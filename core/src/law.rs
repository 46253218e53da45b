use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// An algebraic law that a strategy claims in [`StrategyInfo::laws`](crate::StrategyInfo::laws), and that property tests
/// check.
///
/// Written as text in the metadata of plugins and on the command line, such as `shift-invariant` or `identity-at: alpha=0`;
/// [`Display`](fmt::Display) and [`FromStr`] are inverse to each other for every text.
///
/// ```
/// use logitfuse_core::Law;
///
/// assert_eq!(Law::identity_at("alpha=0").to_string(), "identity-at: alpha=0");
/// assert_eq!("linear-in: expert".parse(), Ok(Law::linear_in("expert")));
/// // A law of a later version stays what it is.
/// assert_eq!("commutative".parse::<Law>().unwrap().to_string(), "commutative");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Law {
    /// `deterministic`: equal inputs give equal bits.
    Deterministic,
    /// `stateless`: a step depends on its own rows only, not on earlier steps.
    Stateless,
    /// `shift-invariant`: a constant added to all logits of a source changes no probability.
    ShiftInvariant,
    /// `vocab-equivariant`: a permutation of the token ids permutes the result and changes nothing else.
    VocabEquivariant,
    /// `mask-preserving`: ids masked in the base are masked in the result.
    MaskPreserving,
    /// `argmax-invariant`: the base's top token stays a top token.
    ArgmaxInvariant,
    /// `linear-in: ROLE`: the fused logits are an affine function of the rows of this role.
    LinearIn(String),
    /// `identity-at: NAME=VALUE`, or several of them with commas between: with these parameters the result is the base, bit
    /// for bit.
    IdentityAt(String),
    /// `monotone-kl-in: NAME`: KL(fused‖base) does not decrease as this parameter grows.
    MonotoneKlIn(String),
    /// A law that this version does not know, as it was written.
    Other(String),
}

const LINEAR_IN: &str = "linear-in: ";
const IDENTITY_AT: &str = "identity-at: ";
const MONOTONE_KL_IN: &str = "monotone-kl-in: ";

impl Law {
    /// [`LinearIn`](Self::LinearIn) this role.
    pub fn linear_in(role: &str) -> Self {
        Self::LinearIn(role.to_owned())
    }

    /// [`IdentityAt`](Self::IdentityAt) these assignments, such as `alpha=0` or `alpha=1, beta=0`.
    pub fn identity_at(assignments: &str) -> Self {
        Self::IdentityAt(assignments.to_owned())
    }

    /// [`MonotoneKlIn`](Self::MonotoneKlIn) this parameter.
    pub fn monotone_kl_in(parameter: &str) -> Self {
        Self::MonotoneKlIn(parameter.to_owned())
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, of) = match self {
            Self::Deterministic => ("deterministic", ""),
            Self::Stateless => ("stateless", ""),
            Self::ShiftInvariant => ("shift-invariant", ""),
            Self::VocabEquivariant => ("vocab-equivariant", ""),
            Self::MaskPreserving => ("mask-preserving", ""),
            Self::ArgmaxInvariant => ("argmax-invariant", ""),
            Self::LinearIn(role) => (LINEAR_IN, role.as_str()),
            Self::IdentityAt(assignments) => (IDENTITY_AT, assignments.as_str()),
            Self::MonotoneKlIn(parameter) => (MONOTONE_KL_IN, parameter.as_str()),
            Self::Other(law) => (law.as_str(), ""),
        };
        f.write_str(name)?;
        f.write_str(of)
    }
}

impl FromStr for Law {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "deterministic" => Self::Deterministic,
            "stateless" => Self::Stateless,
            "shift-invariant" => Self::ShiftInvariant,
            "vocab-equivariant" => Self::VocabEquivariant,
            "mask-preserving" => Self::MaskPreserving,
            "argmax-invariant" => Self::ArgmaxInvariant,
            _ => {
                if let Some(role) = text.strip_prefix(LINEAR_IN) {
                    Self::linear_in(role)
                } else if let Some(assignments) = text.strip_prefix(IDENTITY_AT) {
                    Self::identity_at(assignments)
                } else if let Some(parameter) = text.strip_prefix(MONOTONE_KL_IN) {
                    Self::monotone_kl_in(parameter)
                } else {
                    Self::Other(text.to_owned())
                }
            }
        })
    }
}

impl From<&str> for Law {
    fn from(text: &str) -> Self {
        let Ok(law) = text.parse();
        law
    }
}

impl Serialize for Law {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_law_is_read_as_it_is_written() {
        let laws = [
            Law::Deterministic,
            Law::Stateless,
            Law::ShiftInvariant,
            Law::VocabEquivariant,
            Law::MaskPreserving,
            Law::ArgmaxInvariant,
            Law::linear_in("anti"),
            Law::identity_at("alpha=1, beta=0"),
            Law::monotone_kl_in("alpha"),
        ];
        for law in laws {
            assert!(!matches!(law, Law::Other(_)));
            assert_eq!(Law::from(law.to_string().as_str()), law);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_text_stays_what_it_is(text in r"(linear-in|identity-at|monotone-kl-in|stateless)?(: ?)?\PC{0,8}") {
            prop_assert_eq!(Law::from(text.as_str()).to_string(), text.clone());
            prop_assert_eq!(serde_json::to_value(Law::from(text.as_str())).unwrap(), serde_json::json!(text));
        }
    }
}
