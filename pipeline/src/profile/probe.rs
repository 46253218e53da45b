//! An experiment's own samples, decoded to see what a prediction is worth.

use std::ops::ControlFlow;

use logitfuse_core::{DraftStats, Result, RoundCosts};
use logitfuse_engine::{Cancel, Decoder, Event, Request, Speculation};
use serde::Serialize;

use crate::{Pipeline, ThreadPlan, step_profiler::StepProfiler};

/// One way of decoding some samples: what was expected and what came of it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// `base alone`, `fused`, or who drafted.
    pub way: String,
    /// Samples.
    pub samples: usize,
    /// Tokens that were generated.
    pub tokens: usize,
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Drafted tokens that stood.
    pub accepted: usize,
    /// The probability that a drafted token stood if those before it did; none if nothing was drafted.
    pub acceptance: Option<f64>,
    /// Tokens per second that the costs foretell for drafts as long, and as often accepted, as they were.
    pub predicted_tokens_per_second: Option<f64>,
    /// Tokens per second, prompts not counted.
    pub tokens_per_second: Option<f64>,
}

/// The base by itself.
pub(super) fn alone(
    pipeline: &Pipeline,
    batch: usize,
    requests: &[Request],
    profiler: &StepProfiler<'_>,
) -> Result<Probe> {
    let model = pipeline.parts().roles.first().map_or(0, |role| role.source);
    let timed = profiler.alone(model)?;
    let costs = RoundCosts { batch, round_seconds: vec![timed.round], token_seconds: timed.token };
    let only_base = |request: &Request| {
        let mut request = request.clone();
        request.prompts.truncate(1);
        request
    };
    let requests: Vec<Request> = requests.iter().map(only_base).collect();
    decode(
        &mut pipeline.parts().alone(model)?,
        &format!("{} alone", pipeline.parts().model_named(model)),
        &costs,
        &requests,
    )
}

/// All models, with drafts or without.
pub(super) fn fused(
    pipeline: &Pipeline,
    plan: &ThreadPlan,
    way: &str,
    speculation: Option<Speculation>,
    costs: &RoundCosts,
    requests: &[Request],
) -> Result<Probe> {
    decode(&mut pipeline.parts().decoder(&plan.concurrency(), speculation)?, way, costs, requests)
}

fn decode(decoder: &mut Decoder, way: &str, costs: &RoundCosts, requests: &[Request]) -> Result<Probe> {
    let mut sum = DraftStats::default();
    sum.samples = requests.len();
    // Whether the last token of a sequence was drafted: then its last round chose none.
    let mut ends_drafted = vec![false; requests.len()];
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(report) = event {
            ends_drafted[report.request] = report.drafted;
            sum.rounds += usize::from(!report.drafted);
        }
        ControlFlow::Continue(())
    };
    let mut each = requests.iter().cloned().map(Ok);
    let timings = decoder.generate_stream(&mut each, costs.batch, &Cancel::new(), &mut on_event)?;
    sum.rounds += ends_drafted.iter().filter(|&&drafted| drafted).count();
    // The first token of each came of its prompt.
    sum.rounds = sum.rounds.saturating_sub(requests.len());
    (sum.tokens, sum.drafted, sum.accepted) = (timings.tokens, timings.drafted, timings.accepted);
    sum.seconds = timings.decode_wall.as_secs_f64();
    let per_round = sum.per_round();
    Ok(Probe {
        way: way.to_owned(),
        samples: sum.samples,
        tokens: sum.tokens,
        drafted: sum.drafted,
        accepted: sum.accepted,
        acceptance: per_round
            .filter(|_| sum.drafted > 0)
            .map(|(drafted, _)| share(drafted, sum.accepted as f64 / sum.rounds as f64)),
        predicted_tokens_per_second: per_round.map(|(drafted, tokens)| costs.tokens_per_second(drafted, tokens)),
        tokens_per_second: sum.tokens_per_second(),
    })
}

/// The probability `a` with which each token of a draft of `drafted` stands if `stood` of them do on the mean:
/// `a + a² + … = stood`, in a form that takes lengths between whole numbers, solved by halving.
fn share(drafted: f64, stood: f64) -> f64 {
    let expected = |a: f64| if a < 1.0 - 1e-9 { a * (1.0 - a.powf(drafted)) / (1.0 - a) } else { drafted };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        *(if expected(middle) < stood { &mut low } else { &mut high }) = middle;
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_found_again() {
        for (length, a) in [(1, 0.3), (4, 0.7), (8, 0.95), (3, 0.0), (2, 1.0)] {
            let stood: f64 = (1..=length).map(|n| f64::powi(a, n)).sum();
            assert!((share(f64::from(length), stood) - a).abs() < 1e-6, "{length} {a}");
        }
    }
}
