//! Selectors: the weights of several experts.

mod fingerprint;
mod posterior;
mod stateless;

use std::sync::Arc;

use logitfuse_core::{Error, ErrorKind, Result, TokenId};

pub(crate) use fingerprint::{Fingerprints, Nearest};
pub(crate) use posterior::Posterior;
pub(crate) use stateless::{Entropy, Fixed, Kl};

use crate::{Params, StepRows, Weights};

/// A rule for the weights of several experts, evaluated once per position: the state of one sequence.
///
/// Besides the experts there is the possibility that none of them fits the text. Its weight draws the pooled expert
/// towards its anti, so that less is fused, down to nothing at weight 1.
///
/// # Example
///
/// Experts whose top token is the large model's share the weight; without any, no expert has weight:
///
/// ```
/// use logitfuse_core::numerics::argmax;
/// use logitfuse_dynamic_kl::{DynamicKl, Params, StepRows, Selector};
///
/// #[derive(Clone)]
/// struct Agreement;
///
/// impl Selector for Agreement {
///     fn weigh(&mut self, rows: &StepRows<'_>, weights: &mut [f64]) -> f64 {
///         let top_token = argmax(rows.base().logits());
///         let agrees = |expert: usize| argmax(rows.expert(expert).logits()) == top_token;
///         let agreeing = (0..rows.experts()).filter(|&expert| agrees(expert)).count();
///         for (expert, weight) in weights.iter_mut().enumerate() {
///             *weight = if agrees(expert) { 1.0 / agreeing as f64 } else { 0.0 };
///         }
///         if agreeing == 0 { 1.0 } else { 0.0 }
///     }
///     fn fork(&self) -> Box<dyn Selector> {
///         Box::new(self.clone())
///     }
/// }
///
/// let strategy = DynamicKl::new(Params::default())?.with_selector(|_experts| Box::new(Agreement));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub trait Selector: Send {
    /// The end of the prompt, with the rows of the first position to generate. Called once, before [`weigh`](Self::weigh); no
    /// rollback undoes what is kept from here.
    fn begin(&mut self, rows: &StepRows<'_>) {
        let _ = rows;
    }

    /// Writes one weight for each expert and returns that of "no expert". Weights are 0 or more and add up to 1 with
    /// it. Has no committed side effect: called again with the same rows it gives the same weights.
    fn weigh(&mut self, rows: &StepRows<'_>, weights: &mut [f64]) -> f64;

    /// These tokens are final now; the first was chosen after the last [`weigh`](Self::weigh).
    fn commit(&mut self, tokens: &[TokenId]) {
        let _ = tokens;
    }

    /// Undoes the last `n` committed tokens.
    ///
    /// # Errors
    /// If there are not as many.
    fn rollback(&mut self, n: usize) -> Result<()> {
        let _ = n;
        Ok(())
    }

    /// Fills the trace columns of its own, which only weights of this crate have.
    fn trace(&self, columns: &mut [f64]) {
        let _ = columns;
    }

    /// An independent copy.
    fn fork(&self) -> Box<dyn Selector>;
}

/// Makes the selector of a sequence, given the number of experts.
pub(crate) type MakeSelector = Arc<dyn Fn(usize) -> Box<dyn Selector> + Send + Sync>;

/// The selector that the parameters name, given the fingerprints of the experts' prompts.
pub(crate) fn of(params: &Params, fingerprints: Option<&Arc<Fingerprints>>) -> MakeSelector {
    if let Some(fingerprints) = fingerprints {
        let (fingerprints, slack) = (Arc::clone(fingerprints), params.fingerprint().slack);
        return Arc::new(move |_| Box::new(Nearest::new(Arc::clone(&fingerprints), slack)));
    }
    let posterior = params.posterior.clone().unwrap_or_default();
    // Decimal fractions miss 1 by a little.
    let sum: f64 = params.fixed_weights.iter().flatten().sum();
    let fixed: Vec<f64> = params.fixed_weights.iter().flatten().map(|weight| weight / sum).collect();
    let temperature = params.entropy_temperature.unwrap_or(1.0);
    match params.weights.unwrap_or_default() {
        // Not before it is calibrated, which `DynamicKl::start` insists on.
        Weights::Posterior | Weights::Fingerprint => {
            Arc::new(move |experts| Box::new(Posterior::new(&posterior, experts)))
        }
        Weights::Top1 => Arc::new(move |experts| Box::new(Posterior::new(&posterior, experts).top1())),
        Weights::Uniform => Arc::new(|experts| Box::new(Fixed(vec![1.0 / experts as f64; experts]))),
        Weights::Fixed => Arc::new(move |_| Box::new(Fixed(fixed.clone()))),
        Weights::Kl => Arc::new(|_| Box::new(Kl)),
        Weights::Entropy => Arc::new(move |_| Box::new(Entropy { temperature })),
    }
}

/// Checks the contract of a selector, whose violation would show as wrong rows only.
pub(crate) fn check(weights: &[f64], no_expert: f64) -> Result<()> {
    /// Rounding of a sum, and of fractions written in decimals.
    const TOLERANCE: f64 = 1e-5;
    let sum = weights.iter().sum::<f64>() + no_expert;
    let in_range = |weight: &f64| (0.0..=1.0 + TOLERANCE).contains(weight);
    if weights.iter().all(in_range) && in_range(&no_expert) && (sum - 1.0).abs() <= TOLERANCE {
        return Ok(());
    }
    let what = format!("weights {weights:?} and {no_expert} for no expert");
    Err(Error::new(ErrorKind::Numeric, what).with_help("a selector gives weights of 0 or more that add up to 1"))
}

/// Turns log-weights into weights that add up to 1, given that one of them is finite.
fn softmax(log_weights: &mut [f64]) {
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = log_weights.iter().map(|x| (x - max).exp()).sum();
    for x in log_weights {
        *x = (*x - max).exp() / sum;
    }
}
