use super::Targets;

/// What the strength of a fusion is chosen for. `F` and `R` are KL(fused‖base) and KL(base‖fused) at the strength in
/// question, `a` and `b` the [`Targets`].
///
/// ```
/// use logitfuse_core::numerics::{Objective, Targets};
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
        let (residuals, _) = self.residuals(kl_tilted_base, kl_base_tilted, targets);
        residuals.iter().map(|residual| residual * residual).sum()
    }

    /// Half the derivative of the loss by the strength, from the derivatives of the divergences.
    pub(super) fn half_slope(self, divergences: [f64; 2], derivatives: [f64; 2], targets: &Targets) -> f64 {
        let ([first, second], [by_first, by_second]) = self.residuals(divergences[0], divergences[1], targets);
        let [forward, reverse] = derivatives;
        match self {
            Self::Jeffreys => first * (forward + reverse),
            _ => first * by_first * forward + second * by_second * reverse,
        }
    }

    /// The two residuals whose squares are the loss, and their derivatives by `F` and `R`.
    fn residuals(self, forward: f64, reverse: f64, targets: &Targets) -> ([f64; 2], [f64; 2]) {
        let (a, b) = (targets.forward, targets.reverse);
        let plain = [1.0, 1.0];
        match self {
            Self::Paper | Self::VarianceRatio => ([forward - a, reverse - b], plain),
            Self::Crossed => ([forward - b, reverse - a], plain),
            Self::Forward => ([forward - a, 0.0], plain),
            Self::Reverse => ([0.0, reverse - b], plain),
            Self::Jeffreys => ([forward + reverse - a - b, 0.0], plain),
            Self::Sqrt => {
                let by = |kl: f64| 0.5 / kl.max(f64::MIN_POSITIVE).sqrt();
                ([forward.sqrt() - a.sqrt(), reverse.sqrt() - b.sqrt()], [by(forward), by(reverse)])
            }
        }
    }
}
