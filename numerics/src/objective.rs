use crate::Targets;

/// What the strength of a fusion is chosen for. `F` and `R` are KL(fused‖base) and KL(base‖fused) at the strength in
/// question, `a` and `b` the [`Targets`].
///
/// ```
/// use logitfuse_numerics::{Objective, Targets};
///
/// let targets = Targets { forward: 0.5, reverse: 0.25, anti_variance: 1.0 };
/// assert_eq!(Objective::Paper.loss(0.5, 0.25, &targets), 0.0);
/// assert_eq!(Objective::Crossed.loss(0.5, 0.25, &targets), 0.125);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Objective {
    /// `(F − a)² + (R − b)²`, as published: arguments of the divergences matched. May have several minima.
    Paper,
    /// `(F − b)² + (R − a)²`: arguments crossed, as the published appendix prints it.
    Crossed,
    /// `(F − a)²`. `F` is bounded, so the strength may end at its upper bound.
    Forward,
    /// `(R − b)²`.
    Reverse,
    /// `(F + R − a − b)²`: one root, always.
    Jeffreys,
    /// `(√F − √a)² + (√R − √b)²`: small divergences count beside large ones.
    Sqrt,
    /// The ratio of the direction's standard deviations under anti and base, which is where all other objectives go as
    /// the expert's move becomes small. A closed form; its loss is reported as that of [`Paper`](Self::Paper).
    VarianceRatio,
}

impl Objective {
    /// Every objective.
    pub const ALL: [Self; 7] =
        [Self::Paper, Self::Crossed, Self::Forward, Self::Reverse, Self::Jeffreys, Self::Sqrt, Self::VarianceRatio];

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
            Self::Paper | Self::VarianceRatio => [forward - a, reverse - b],
            Self::Crossed => [forward - b, reverse - a],
            Self::Forward => [forward - a, 0.0],
            Self::Reverse => [0.0, reverse - b],
            Self::Jeffreys => [forward + reverse - a - b, 0.0],
            Self::Sqrt => [forward.sqrt() - a.sqrt(), reverse.sqrt() - b.sqrt()],
        }
    }
}
