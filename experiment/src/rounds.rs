//! What a round of decoding takes, timed in an engine at work: with everything that a round does besides running models.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use logitfuse_core::{Result, TokenId};
use logitfuse_engine::{
    Cancel, Concurrency, Draft, DraftLength, Engine, Event, Request, Sampling, Speculation, TextRules,
};
use logitfuse_rundir::RoundCosts;

use crate::{
    Plan,
    costs::{self, Costs},
    kit::Kit,
    speculation::Drafter,
};

/// The longest draft that is considered.
pub(crate) const LONGEST: usize = 8;
/// Drafts that are timed; the costs of those between lie on lines.
const LENGTHS: [usize; 5] = [0, 1, 2, 4, 8];
/// Tokens in the cache while rounds are timed.
pub(crate) const CONTEXT: usize = 64;
/// The first rounds are slower: buffers grow, caches fill.
const WARM_UP: usize = 2;
/// So many rounds are timed, or as many as this time allows, three at least.
const ROUNDS: usize = 15;
const PATIENCE: Duration = Duration::from_millis(300);

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

/// Engines over the same models, run for a few rounds each.
pub(crate) struct Stopwatch<'a> {
    pub(crate) kit: &'a Kit,
    /// One prompt per binding.
    pub(crate) prompts: Vec<Vec<TokenId>>,
    pub(crate) sampling: Sampling,
    pub(crate) text: TextRules,
    /// Sequences that run at once.
    pub(crate) batch: usize,
}

impl Stopwatch<'_> {
    /// A step without drafts.
    pub(crate) fn plain(&self, concurrency: Concurrency) -> Result<Timed> {
        time(&mut self.kit.engine(concurrency, None)?, &self.requests(&self.prompts, 0))
    }

    /// A step of one model by itself.
    pub(crate) fn alone(&self, model: usize) -> Result<Timed> {
        time(&mut self.kit.alone(model)?, &self.requests(&self.prompts[..1], 0))
    }

    /// The waves of a plan, or all models one after another where that is clearly faster: what a step yields is the same.
    pub(crate) fn faster(&self, plan: &Plan) -> Result<Vec<Vec<usize>>> {
        let in_turn = plan.in_turn();
        if in_turn.waves.len() == plan.waves.len() {
            return Ok(plan.waves.clone());
        }
        let [planned, in_turn_takes] = [plan, &in_turn].map(|plan| self.plain(plan.concurrency()));
        let pays = in_turn_takes?.round < CLEARLY * planned?.round;
        Ok(if pays { in_turn.waves } else { plan.waves.clone() })
    }

    /// What rounds cost if this one drafts, up to `longest` tokens.
    pub(crate) fn costs(&self, plan: &Plan, drafter: Drafter, longest: usize) -> Result<RoundCosts> {
        if drafter != Drafter::Lookup {
            return self.rounds(&plan.concurrency(), drafter.draft(), longest);
        }
        // What is found cannot be foreseen: passes over as many rows are timed by themselves, and the rest is that of a
        // step without draft.
        let mut sources = self.kit.sources.clone();
        let of = sources.iter_mut().map(|source| costs::time(source)).collect::<Result<_>>()?;
        let plain = self.plain(plan.concurrency())?;
        let verify = Costs { of, plan }.drafts(None).verify;
        let rest = plain.round - verify[0];
        let round_seconds = verify.iter().map(|seconds| (seconds + rest).max(plain.round)).collect();
        Ok(RoundCosts { batch: self.batch, round_seconds, token_seconds: plain.token })
    }

    /// Rounds without draft and with drafts up to `longest`, or up to one that could not pay if every token of it stood.
    fn rounds(&self, concurrency: &Concurrency, draft: Draft, longest: usize) -> Result<RoundCosts> {
        let mut timed: Vec<(usize, Timed)> = Vec::new();
        let lengths = LENGTHS.into_iter().filter(|&length| length < longest).chain([longest]);
        for length in lengths {
            let speculation = Speculation { draft, length: DraftLength::Fixed(length) };
            let mut engine = self.kit.engine(concurrency.clone(), Some(speculation))?;
            let found = time(&mut engine, &self.requests(&self.prompts, length))?;
            if !found.round.is_finite() {
                // The context has no room for such rounds.
                break;
            }
            let hopeless = timed.first().is_some_and(|(_, plain)| found.round > (length + 1) as f64 * plain.round);
            timed.push((length, found));
            if hopeless {
                break;
            }
        }
        Ok(lines(self.batch, &timed))
    }

    fn requests(&self, prompts: &[Vec<TokenId>], length: usize) -> Vec<Request> {
        let mut request = Request::new(prompts.to_vec())
            .max_new_tokens((WARM_UP + ROUNDS + 2) * (length + 1))
            .sampling(self.sampling.clone())
            .text(self.text.clone());
        request.ignore_end_of_sequence = true;
        vec![request; self.batch]
    }
}

/// Costs of all lengths up to the longest that was timed.
fn lines(batch: usize, timed: &[(usize, Timed)]) -> RoundCosts {
    let mut round_seconds = Vec::new();
    for pair in timed.windows(2) {
        let [(from, low), (to, high)] = pair else { continue };
        let slope = (high.round - low.round) / (to - from) as f64;
        round_seconds.extend((0..to - from).map(|step| low.round + slope * step as f64));
    }
    round_seconds.extend(timed.last().map(|(_, last)| last.round));
    let token_seconds = median(timed.iter().map(|(_, timed)| timed.token));
    RoundCosts { batch, round_seconds, token_seconds }
}

/// Lets an engine decode until enough rounds are seen.
fn time(engine: &mut Engine, requests: &[Request]) -> Result<Timed> {
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
    let generated = engine.generate(requests, &Cancel::new(), &mut on_event)?;
    let timings = generated.first().map(|generation| &generation.timings);
    let token = timings.map_or(0.0, |t| (t.fuse + t.sample).as_secs_f64() / t.tokens.max(1) as f64);
    // A context that is too small for a warm-up is timed without.
    let ends = &ends[if ends.len() > WARM_UP + 1 { WARM_UP } else { 0 }..];
    let rounds = ends.windows(2).map(|pair| {
        let by_themselves = (pair[1].1 - pair[0].1) as f64 * token;
        ((pair[1].0 - pair[0].0).as_secs_f64() - by_themselves).max(1e-9)
    });
    Ok(Timed { round: median(rounds), token })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::INFINITY)
}
