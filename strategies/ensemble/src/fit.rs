//! Weights of the three-way mixture, fitted to a prompt.

use logitfuse_core::{RoleRow, TokenId, numerics::log_sum_exp};

use crate::{TriMixParams, trimix::mix};

/// The values of `alpha` and of `beta` that [`fit_weights`] tries, those of the paper.
pub const WEIGHTS: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0];

/// The rows of the three models at one position of a prompt, and the token that follows.
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

/// The outcome of [`fit_weights`].
#[derive(Clone, Debug, PartialEq)]
pub struct FittedWeights {
    /// The weights under which the prompt is most probable.
    pub params: TriMixParams,
    /// The prompt's perplexity under them.
    pub perplexity: f64,
}

/// Tries all pairs of [`WEIGHTS`] and returns the one under which a prompt has the smallest perplexity: no answer is
/// needed, and the prompt's rows exist anyhow. Of equals, the smallest `alpha` and then the smallest `beta`.
///
/// Positions whose next token the base masks do not depend on the weights and are left out; `None` if none is left.
///
/// ```
/// use logitfuse_core::{RoleRow, numerics::log_sum_exp};
/// use logitfuse_ensemble::{PromptRow, fit_weights};
///
/// // The tuned model expects token 1, which does come next; the others do not.
/// let row = |logits| RoleRow::new(logits, log_sum_exp(logits), 0.0);
/// let (base, expert, anti) = (row(&[1.0, 0.0]), row(&[0.0, 3.0]), row(&[0.5, 0.0]));
/// let found = fit_weights(&[PromptRow { base, expert, anti, next: 1 }]).unwrap();
/// assert_eq!((found.params.alpha, found.params.beta), (0.1, 1.0));
/// assert!(found.perplexity < 1.1);
/// ```
pub fn fit_weights(prompt: &[PromptRow<'_>]) -> Option<FittedWeights> {
    let mut search = WeightSearch::default();
    for row in prompt {
        search.add(row);
    }
    search.best()
}

/// The search over all pairs, position by position, so that no row has to be kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeightSearch {
    /// Negative log-likelihood of all positions in nats, by pair of weights.
    loss: [[f64; WEIGHTS.len()]; WEIGHTS.len()],
    positions: usize,
    fused: Vec<f32>,
}

/// All pairs, the smallest `alpha` first.
fn pairs() -> impl Iterator<Item = TriMixParams> {
    let pair = |alpha, beta| TriMixParams { alpha, beta, ..TriMixParams::default() };
    WEIGHTS.into_iter().flat_map(move |alpha| WEIGHTS.map(|beta| pair(alpha, beta)))
}

impl WeightSearch {
    pub(crate) fn add(&mut self, row: &PromptRow<'_>) {
        let next = row.next as usize;
        if !row.base.logits()[next].is_finite() {
            return;
        }
        self.positions += 1;
        self.fused.resize(row.base.logits().len(), 0.0);
        for (params, loss) in pairs().zip(self.loss.as_flattened_mut()) {
            mix(&params, [&row.base, &row.expert, &row.anti], &mut self.fused);
            *loss += log_sum_exp(&self.fused) - f64::from(self.fused[next]);
        }
    }

    pub(crate) fn best(&self) -> Option<FittedWeights> {
        let mut best: Option<FittedWeights> = None;
        for (params, loss) in pairs().zip(self.loss.as_flattened()).filter(|_| self.positions > 0) {
            let perplexity = (loss / self.positions as f64).exp();
            if best.as_ref().is_none_or(|best| perplexity < best.perplexity) {
                best = Some(FittedWeights { params, perplexity });
            }
        }
        best
    }
}
