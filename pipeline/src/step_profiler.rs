//! What a round of decoding takes, timed in a decoder at work: with everything that a round does besides running models.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use logitfuse_core::{Detokenize, Result, RoundCosts, TokenId};
use logitfuse_engine::{
    Cancel, Concurrency, Decoder, Draft, DraftLength, Event, Request, Sampling, Speculation, Timings,
};

use crate::{
    ThreadPlan,
    costs::{self, Costs},
    parts::EngineParts,
    speculation::Drafter,
};

/// Drafts that are timed; the costs of those between lie on lines.
const LENGTHS: [usize; 5] = [0, 1, 2, 4, 8];
/// The first rounds are slower: buffers grow, caches fill.
const WARM_UP: usize = 2;
/// So many rounds are timed, or as many as this time allows, three at least.
const ROUNDS: usize = 12;
const PATIENCE: Duration = Duration::from_millis(250);
/// Everything is timed so often, in turn, so that a machine that is busy for a moment does not wrong one of them.
const PASSES: usize = 3;
/// A draft that takes so many times as long as its tokens would take without is not timed any further.
const HOPELESS: f64 = 1.5;

/// Another way must take less than this share of the time to be taken instead.
const CLEARLY: f64 = 0.95;

/// One way of decoding, timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    /// Seconds of a round, what each token costs by itself not counted.
    pub(crate) round: f64,
    /// Seconds of fusing and choosing a token.
    pub(crate) token: f64,
}

impl Timed {
    /// Whatever else the machine does only adds.
    fn or_faster(self, other: Self) -> Self {
        Self { round: self.round.min(other.round), token: self.token.min(other.token) }
    }
}

/// Decoders over the same models, run for a few rounds each.
pub(crate) struct StepProfiler<'a> {
    pub(crate) parts: &'a EngineParts,
    /// One prompt per binding.
    pub(crate) prompts: Vec<Vec<TokenId>>,
    pub(crate) sampling: Sampling,
    pub(crate) text: Option<Arc<dyn Detokenize>>,
    /// Sequences that run at once.
    pub(crate) batch: usize,
}

impl StepProfiler<'_> {
    /// A step without drafts.
    pub(crate) fn plain(&self, concurrency: &Concurrency) -> Result<Timed> {
        let mut decoder = self.parts.decoder(concurrency, None)?;
        best(&mut decoder, &self.requests(&self.prompts, 0))
    }

    /// A step of one model by itself.
    pub(crate) fn alone(&self, model: usize) -> Result<Timed> {
        best(&mut self.parts.alone(model)?, &self.requests(&self.prompts[..1], 0))
    }

    /// The waves of a plan, or all models one after another where that is clearly faster: what a step yields is the same.
    pub(crate) fn faster(&self, plan: &ThreadPlan) -> Result<Vec<Vec<usize>>> {
        let in_turn = plan.in_turn();
        if in_turn.waves.len() == plan.waves.len() {
            return Ok(plan.waves.clone());
        }
        let (planned, in_turn_takes) = (self.plain(&plan.concurrency())?, self.plain(&in_turn.concurrency())?);
        let pays = in_turn_takes.round < CLEARLY * planned.round;
        Ok(if pays { in_turn.waves } else { plan.waves.clone() })
    }

    /// What rounds cost if this one drafts, up to `longest` tokens.
    pub(crate) fn costs(&self, plan: &ThreadPlan, drafter: Drafter, longest: usize) -> Result<RoundCosts> {
        if drafter != Drafter::Lookup {
            return self.rounds(&plan.concurrency(), drafter.draft(), longest);
        }
        // What is found cannot be foreseen: passes over as many rows are timed by themselves, and the rest is that of a
        // step without draft.
        let time = |source| self.parts.pool.with_source(source, costs::time).flatten();
        let of = (0..self.parts.pool.len()).map(time).collect::<Result<_>>()?;
        let plain = self.plain(&plan.concurrency())?;
        let verify = Costs { of, plan }.drafts(None).verify;
        let rest = plain.round - verify[0];
        let round_seconds = verify.iter().map(|seconds| (seconds + rest).max(plain.round)).collect();
        Ok(RoundCosts { batch: self.batch, round_seconds, token_seconds: plain.token })
    }

    /// Rounds without draft and with drafts up to `longest`, or up to one that could not pay if every token of it stood.
    fn rounds(&self, concurrency: &Concurrency, draft: Draft, longest: usize) -> Result<RoundCosts> {
        let mut timed: Vec<(usize, Timed)> = Vec::new();
        let lengths: Vec<usize> = LENGTHS.into_iter().filter(|&length| length < longest).chain([longest]).collect();
        for _ in 0..PASSES {
            for (place, &length) in lengths.iter().enumerate() {
                let speculation = Speculation { draft, length: DraftLength::Fixed(length) };
                let mut decoder = self.parts.decoder(concurrency, Some(speculation))?;
                let found = time(&mut decoder, &self.requests(&self.prompts, length))?;
                if !found.round.is_finite() {
                    // The context has no room for such rounds.
                    break;
                }
                match timed.get_mut(place) {
                    Some((_, known)) => *known = known.or_faster(found),
                    None => timed.push((length, found)),
                }
                let in_steps = HOPELESS * (length + 1) as f64 * timed[0].1.round;
                if timed[place].1.round > in_steps {
                    break;
                }
            }
        }
        Ok(lines(self.batch, &timed))
    }

    fn requests(&self, prompts: &[Vec<TokenId>], length: usize) -> Vec<Request> {
        let mut request = Request::new(prompts.to_vec())
            .max_new_tokens((WARM_UP + ROUNDS + 2) * (length + 1))
            .sampling(self.sampling.clone());
        request.text.clone_from(&self.text);
        request.ignore_end_of_sequence = true;
        vec![request; self.batch]
    }
}

/// Costs of all lengths up to the longest that was timed.
fn lines(batch: usize, timed: &[(usize, Timed)]) -> RoundCosts {
    let mut known: Vec<(usize, f64)> = timed.iter().map(|&(length, timed)| (length, timed.round)).collect();
    // A shorter draft takes no longer than a longer one: where it did, the machine was busy.
    for place in (1..known.len()).rev() {
        known[place - 1].1 = known[place - 1].1.min(known[place].1);
    }
    let mut round_seconds = Vec::new();
    for pair in known.windows(2) {
        let [(from, low), (to, high)] = pair else { continue };
        let slope = (high - low) / (to - from) as f64;
        round_seconds.extend((0..to - from).map(|step| low + slope * step as f64));
    }
    round_seconds.extend(known.last().map(|&(_, last)| last));
    let token_seconds = if timed.is_empty() { 0.0 } else { quartile(timed.iter().map(|(_, timed)| timed.token)) };
    RoundCosts { batch, round_seconds, token_seconds }
}

/// The best of several passes.
fn best(decoder: &mut Decoder, requests: &[Request]) -> Result<Timed> {
    (1..PASSES).try_fold(time(decoder, requests)?, |known, _| Ok(known.or_faster(time(decoder, requests)?)))
}

/// Lets a decoder run until enough rounds are seen.
fn time(decoder: &mut Decoder, requests: &[Request]) -> Result<Timed> {
    let mut tokens = 0;
    // When each round of the first sequence ended, and after how many tokens of all.
    let mut ends: Vec<(Instant, usize)> = Vec::new();
    let mut on_event = |event: Event<'_>| {
        let Event::Token(report) = event else { return ControlFlow::Continue(()) };
        tokens += 1;
        if report.request > 0 || report.drafted {
            return ControlFlow::Continue(());
        }
        ends.push((Instant::now(), tokens));
        let seen = ends.len().saturating_sub(WARM_UP + 1);
        let late = || ends[WARM_UP].0.elapsed() > PATIENCE;
        if seen >= ROUNDS || (seen >= 3 && late()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let generated = decoder.generate(requests, &Cancel::new(), &mut on_event)?;
    let mut timings = Timings::default();
    for generation in &generated {
        timings.add(&generation.timings);
    }
    let token = (timings.fuse + timings.sample).as_secs_f64() / timings.tokens.max(1) as f64;
    // A context that is too small for a warm-up is timed without.
    let ends = &ends[if ends.len() > WARM_UP + 1 { WARM_UP } else { 0 }..];
    let rounds = ends.windows(2).map(|pair| {
        let by_themselves = (pair[1].1 - pair[0].1) as f64 * token;
        ((pair[1].0 - pair[0].0).as_secs_f64() - by_themselves).max(1e-9)
    });
    Ok(Timed { round: quartile(rounds), token })
}

/// What a quarter of the rounds stays below: nearer to the machine left alone than the median, steadier than the least.
fn quartile(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use logitfuse_core::SharedVocabulary;
    use logitfuse_engine::{Role, SourcePool};
    use logitfuse_replay::SyntheticSource;
    use logitfuse_static_proxy::{Params, StaticProxy};

    use super::*;
    use crate::costs::LONGEST;

    fn parts() -> EngineParts {
        let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), 32, seed));
        let builder = SourcePool::builder().vocabulary(SharedVocabulary::new(32, []));
        EngineParts {
            strategy: Arc::new(StaticProxy::new(Params::default()).unwrap()),
            pool: builder.source(source(1)).source(source(2)).source(source(3)).build().unwrap(),
            roles: vec![Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)],
        }
    }

    fn profiler(parts: &EngineParts, batch: usize) -> StepProfiler<'_> {
        let prompts = vec![vec![0; 4], vec![1; 4], vec![2; 4]];
        StepProfiler { parts, prompts, sampling: Sampling::default(), text: None, batch }
    }

    #[test]
    fn every_drafter_has_costs_of_every_length() {
        let (parts, plan) = (parts(), ThreadPlan { threads: vec![1; 3], waves: vec![vec![0], vec![1, 2]] });
        for drafter in [Drafter::Binding { binding: 1, model: 1 }, Drafter::Extra { model: 2 }, Drafter::Lookup] {
            let costs = profiler(&parts, 2).costs(&plan, drafter, LONGEST).unwrap();
            // Drafts that cannot pay end the list; a toy's passes cost next to nothing beside a round.
            assert!((2..=LONGEST + 1).contains(&costs.round_seconds.len()), "{drafter:?}: {costs:?}");
            assert!(costs.round_seconds.iter().all(|&seconds| seconds.is_finite() && seconds > 0.0), "{costs:?}");
            assert_eq!(costs.batch, 2);
        }
    }

    #[test]
    fn a_model_is_timed_alone_and_all_are_timed_in_either_order() {
        let (parts, plan) = (parts(), ThreadPlan { threads: vec![1; 3], waves: vec![vec![0], vec![1, 2]] });
        let profiler = profiler(&parts, 1);
        assert!(profiler.alone(2).unwrap().round.is_finite());
        let mut waves = profiler.faster(&plan).unwrap().concat();
        waves.sort_unstable();
        assert_eq!(waves, [0, 1, 2]);
    }

    #[test]
    fn decoders_over_the_same_models_do_not_see_each_other() {
        let parts = parts();
        let request = Request::new(vec![vec![3; 4], vec![4; 4], vec![5; 4]]).max_new_tokens(24);
        let before = parts.decoder(&Concurrency::Parallel, None).unwrap().generate_one(&request).unwrap();
        let mut decoder = parts.decoder(&Concurrency::Sequential, None).unwrap();
        profiler(&parts, 1).plain(&Concurrency::Parallel).unwrap();
        assert_eq!(decoder.generate_one(&request).unwrap().tokens, before.tokens);
    }

    #[test]
    fn lengths_that_were_not_timed_lie_on_lines() {
        let timed = |round| Timed { round, token: 0.5 };
        let costs = lines(1, &[(0, timed(1.0)), (2, timed(3.0)), (4, timed(4.0))]);
        assert_eq!(costs.round_seconds, [1.0, 2.0, 3.0, 3.5, 4.0]);
        let disturbed = lines(1, &[(0, timed(1.0)), (1, timed(7.0)), (2, timed(3.0))]);
        assert_eq!(disturbed.round_seconds, [1.0, 3.0, 3.0]);
        assert!((costs.token_seconds - 0.5).abs() < 1e-12);
    }
}
