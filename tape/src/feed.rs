//! How a text is fed to the sources: in one pass, or as decoding feeds it.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{
    LogitsProcessor, ProcessorContext, ProcessorFactory, Result, SamplingRow, SharedVocabulary, TokenId,
};
use logitfuse_engine::{Cancel, Decoder, Event, ObservedRows, Request, ScoreRequest};

/// How a text is fed to the sources after its prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feeding {
    /// All of it in one pass: fast, and what scoring does.
    #[default]
    Whole,
    /// A token at a time, as decoding does it.
    Stepwise,
}

/// Allows one token at each position: that of a text.
#[derive(Clone)]
struct Forced(Arc<[TokenId]>);

impl LogitsProcessor for Forced {
    fn apply(&mut self, context: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
        let forced = self.0.get(context.generated.len());
        let logits = row.logits_mut();
        logits.fill(f32::NEG_INFINITY);
        if let Some(logit) = forced.and_then(|&token| logits.get_mut(token as usize)) {
            *logit = 0.0;
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

impl ProcessorFactory for Forced {
    fn start(&self, _prompt: &[TokenId], _vocabulary: &SharedVocabulary) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

impl std::fmt::Debug for Forced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Forced").field(&self.0.len()).finish()
    }
}

/// Feeds a text after its prompts, and shows the rows of every position, in order.
///
/// # Errors
/// Those of the models, and of `keep`.
pub(super) fn feed(
    decoder: &mut Decoder,
    prompts: &[Vec<TokenId>],
    tokens: &[TokenId],
    feeding: Feeding,
    cancel: &Cancel,
    keep: &mut dyn FnMut(&ObservedRows<'_>) -> Result<()>,
) -> Result<()> {
    let mut kept = Ok(());
    let mut on_event = |event: Event<'_>| {
        if let Event::Rows(observed) = event {
            kept = keep(observed);
        }
        if kept.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let fed = match feeding {
        Feeding::Whole => {
            let request = ScoreRequest::new(prompts, [tokens.to_vec()]).observe_rows();
            decoder.score_observed(&mut std::iter::once(Ok(request)), 1, cancel, &mut on_event).map(|_| ())
        }
        Feeding::Stepwise => {
            let forced = Arc::new(Forced(tokens.into()));
            let mut request = Request::new(prompts).max_new_tokens(tokens.len()).processor(forced).observe_rows();
            // A text may hold the token that ends one.
            request.ignore_end_of_sequence = true;
            decoder.generate(&[request], cancel, &mut on_event).map(|_| ())
        }
    };
    kept?;
    fed
}

/// Tokens by which [`dependence`] is measured.
const MEASURED: usize = 16;

/// By how much the log-probabilities of each source differ at most between the two ways of feeding, in nats, over the beginning
/// of a text.
///
/// # Errors
/// As [`feed`].
pub(super) fn dependence(
    decoder: &mut Decoder,
    prompts: &[Vec<TokenId>],
    tokens: &[TokenId],
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    let tokens = &tokens[..tokens.len().min(MEASURED)];
    let mut rows: Vec<Vec<Vec<f32>>> = Vec::new();
    feed(decoder, prompts, tokens, Feeding::Whole, cancel, &mut |observed| {
        let row = |row: &Option<logitfuse_core::RoleRow<'_>>| row.map_or_else(Vec::new, |row| row.logits().to_vec());
        rows.push(observed.roles.iter().map(row).collect());
        Ok(())
    })?;
    let mut most = vec![0.0_f64; prompts.len()];
    feed(decoder, prompts, tokens, Feeding::Stepwise, cancel, &mut |observed| {
        let before = rows.get(observed.position).into_iter().flatten();
        for ((most, before), now) in most.iter_mut().zip(before).zip(observed.roles) {
            let Some(now) = now else { continue };
            *most = most.max(difference(before, now.logits()));
        }
        Ok(())
    })?;
    Ok(most)
}

/// The largest difference of two rows, after what is added to all entries alike was taken off.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let normalisers = [a, b].map(logitfuse_core::numerics::log_sum_exp);
    let log_prob = |row: &[f32], id: usize, which: usize| f64::from(row[id]) - normalisers[which];
    // Of what is all but impossible the logarithm says little.
    let known = |id: &usize| a[*id].is_finite() && b[*id].is_finite() && log_prob(a, *id, 0) > -10.0;
    let ids = (0..a.len().min(b.len())).filter(known);
    ids.map(|id| (log_prob(a, id, 0) - log_prob(b, id, 1)).abs()).fold(0.0, f64::max)
}
