use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Targets;

/// What the strength of a fusion is chosen for: how far KL(fused‖base), `F`, and KL(base‖fused), `R`, are from the [`Targets`]
/// KL(expert‖anti), `a`, and KL(anti‖expert), `b`.
///
/// ```
/// use logitfuse_numerics::{Objective, Targets};
///
/// let targets = Targets { forward: 0.5, reverse: 0.25, anti_variance: 1.0 };
/// assert_eq!(Objective::BothDivergences.loss(0.5, 0.25, &targets), 0.0);
/// assert_eq!(Objective::Crossed.loss(0.5, 0.25, &targets), 0.125);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Objective {
    /// Both divergences match their targets, `(F − a)² + (R − b)²`: the published objective. May have several minima.
    #[default]
    #[serde(rename = "paper")]
    BothDivergences,
    /// As `paper` with the two targets exchanged, `(F − b)² + (R − a)²`: how the published appendix prints it.
    Crossed,
    /// KL(fused‖base) alone, `(F − a)²`. `F` is bounded, so the strength may end at its upper bound.
    Forward,
    /// KL(base‖fused) alone, `(R − b)²`.
    Reverse,
    /// Their sum, `(F + R − a − b)²`: one root always, the most robust.
    Jeffreys,
    /// As `paper` between square roots, `(√F − √a)² + (√R − √b)²`: small divergences count beside large ones.
    Sqrt,
    /// The closed form for mild experts: the ratio of the direction's standard deviations under anti and base, to which all
    /// other objectives tend as the expert's move becomes small. Its loss is that of `paper`.
    VarianceRatio,
}

impl Objective {
    /// Every objective.
    pub const ALL: [Self; 7] = [
        Self::BothDivergences,
        Self::Crossed,
        Self::Forward,
        Self::Reverse,
        Self::Jeffreys,
        Self::Sqrt,
        Self::VarianceRatio,
    ];

    /// The loss at a strength with these divergences: nats squared, and nats for [`Sqrt`](Self::Sqrt).
    pub fn loss(self, kl_tilted_base: f64, kl_base_tilted: f64, targets: &Targets) -> f64 {
        self.residuals([kl_tilted_base, kl_base_tilted], targets).iter().map(|residual| residual * residual).sum()
    }

    /// Half the derivative of the loss by the strength, from the derivatives of the divergences.
    pub(crate) fn half_slope(self, divergences: [f64; 2], derivatives: [f64; 2], targets: &Targets) -> f64 {
        let [first, second] = self.residuals(divergences, targets);
        let [forward, reverse] = derivatives;
        let of_root = |kl: f64| 0.5 / kl.max(f64::MIN_POSITIVE).sqrt();
        match self {
            Self::Jeffreys => first * (forward + reverse),
            Self::Sqrt => first * of_root(divergences[0]) * forward + second * of_root(divergences[1]) * reverse,
            _ => first * forward + second * reverse,
        }
    }

    /// The two numbers whose squares are the loss: how far the divergences are beyond their targets. Where only one counts,
    /// the other is 0.
    pub(crate) fn residuals(self, [forward, reverse]: [f64; 2], targets: &Targets) -> [f64; 2] {
        let (a, b) = (targets.forward, targets.reverse);
        match self {
            Self::BothDivergences | Self::VarianceRatio => [forward - a, reverse - b],
            Self::Crossed => [forward - b, reverse - a],
            Self::Forward => [forward - a, 0.0],
            Self::Reverse => [0.0, reverse - b],
            Self::Jeffreys => [forward + reverse - a - b, 0.0],
            Self::Sqrt => [forward.sqrt() - a.sqrt(), reverse.sqrt() - b.sqrt()],
        }
    }
}
