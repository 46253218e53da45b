//! Weights for the three-way mixture, from a prompt.

use logitfuse_core::{RoleRow, TokenId, numerics::log_sum_exp};

use crate::{TriMixParams, trimix::mix};

/// The values of `alpha` and of `beta` that [`calibrate`] tries, those of the paper.
pub const WEIGHTS: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0];

/// What the three models say at one position of a prompt, and what comes next there.
#[derive(Clone, Copy, Debug)]
pub struct PromptRow<'a> {
    /// The large model's row.
    pub base: RoleRow<'a>,
    /// The tuned small model's row.
    pub expert: RoleRow<'a>,
    /// The untuned small model's row.
    pub anti: RoleRow<'a>,
    /// The prompt's next token.
    pub next: TokenId,
}

/// The outcome of [`calibrate`].
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The weights under which the prompt is most probable.
    pub params: TriMixParams,
    /// The prompt's perplexity under them.
    pub perplexity: f64,
}

/// Tries all pairs of [`WEIGHTS`] and returns the one under which a prompt has the smallest perplexity: no answer is
/// needed, and the prompt's rows exist anyhow. Of equals, the smallest `alpha` and then the smallest `beta`.
///
/// Positions whose next token the base masks tell nothing about weights and are left out; `None` if none is left.
///
/// ```
/// use logitfuse_core::{RoleRow, numerics::log_sum_exp};
/// use logitfuse_ensemble::{PromptRow, calibrate};
///
/// // The tuned model expects token 1, which does come next; the others do not.
/// let row = |logits| RoleRow::new(logits, log_sum_exp(logits), 0.0);
/// let (base, expert, anti) = (row(&[1.0, 0.0]), row(&[0.0, 3.0]), row(&[0.5, 0.0]));
/// let found = calibrate(&[PromptRow { base, expert, anti, next: 1 }]).unwrap();
/// assert_eq!((found.params.alpha, found.params.beta), (0.1, 1.0));
/// assert!(found.perplexity < 1.1);
/// ```
pub fn calibrate(prompt: &[PromptRow<'_>]) -> Option<Calibration> {
    let mut trial = Trial::default();
    for row in prompt {
        trial.add(row);
    }
    trial.best()
}

/// A calibration under way: position by position, so that no row has to be kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trial {
    /// Nats of all positions, by pair of weights.
    surprise: [[f64; WEIGHTS.len()]; WEIGHTS.len()],
    positions: usize,
    fused: Vec<f32>,
}

/// All pairs, the smallest `alpha` first.
fn pairs() -> impl Iterator<Item = TriMixParams> {
    let pair = |alpha, beta| TriMixParams { alpha, beta, ..TriMixParams::default() };
    WEIGHTS.into_iter().flat_map(move |alpha| WEIGHTS.map(|beta| pair(alpha, beta)))
}

impl Trial {
    pub(crate) fn add(&mut self, row: &PromptRow<'_>) {
        let next = row.next as usize;
        if !row.base.logits()[next].is_finite() {
            return;
        }
        self.positions += 1;
        self.fused.resize(row.base.logits().len(), 0.0);
        for (params, surprise) in pairs().zip(self.surprise.as_flattened_mut()) {
            mix(&params, [&row.base, &row.expert, &row.anti], &mut self.fused);
            *surprise += log_sum_exp(&self.fused) - f64::from(self.fused[next]);
        }
    }

    pub(crate) fn best(&self) -> Option<Calibration> {
        let mut best: Option<Calibration> = None;
        for (params, surprise) in pairs().zip(self.surprise.as_flattened()).filter(|_| self.positions > 0) {
            let perplexity = (surprise / self.positions as f64).exp();
            if best.as_ref().is_none_or(|best| perplexity < best.perplexity) {
                best = Some(Calibration { params, perplexity });
            }
        }
        best
    }
}
