//! Who pays for what a batch costs.

use std::collections::BTreeMap;

use logitfuse_engine::Timings;
use logitfuse_rundir::{SourceTiming, TimingRecord};

/// Divides the time of a batch among its samples: what passes between two ends of samples is paid by all that moved, in
/// proportion to their tokens; prompts by those that began. Over a whole run the shares sum up to the time that passed.
#[derive(Default)]
pub(super) struct Shares {
    seen: Timings,
    /// Tokens of each request since the last division.
    moved: BTreeMap<usize, usize>,
    /// Requests that began since then.
    began: Vec<usize>,
    owed: BTreeMap<usize, Share>,
}

/// In seconds and tokens, which need not be whole.
#[derive(Clone, Default)]
struct Share {
    tokens: usize,
    accepted: usize,
    /// Tokens that nobody drafted.
    chosen: usize,
    /// Whether the last token was drafted.
    ends_drafted: bool,
    rounds: usize,
    drafted: f64,
    prefill: f64,
    decode: f64,
    fuse: f64,
    sample: f64,
    sources: Vec<[f64; 4]>,
}

impl Shares {
    /// A request has one token more.
    pub(super) fn token(&mut self, request: usize, drafted: bool) {
        self.tokens(request, 1);
        let share = self.owed.entry(request).or_default();
        share.ends_drafted = drafted;
        *(if drafted { &mut share.accepted } else { &mut share.chosen }) += 1;
    }

    /// A request has so many tokens more.
    pub(super) fn tokens(&mut self, request: usize, tokens: usize) {
        let share = self.owed.entry(request).or_insert_with(|| {
            self.began.push(request);
            Share::default()
        });
        share.tokens += tokens;
        *self.moved.entry(request).or_default() += tokens;
    }

    /// Divides what passed since the last division. `timings` are those of the call so far.
    pub(super) fn divide(&mut self, timings: &Timings) {
        let seconds = |now: std::time::Duration, then: std::time::Duration| now.saturating_sub(then).as_secs_f64();
        let sources = timings.forward.len();
        self.seen.prefill.resize(sources, std::time::Duration::ZERO);
        self.seen.forward.resize(sources, std::time::Duration::ZERO);
        self.seen.prefill_tokens.resize(sources, 0);
        self.seen.reused_tokens.resize(sources, 0);
        let moved: usize = self.moved.values().sum();
        let count = |now: usize, then: usize| now.saturating_sub(then) as f64;
        for (request, tokens) in &self.moved {
            let Some(share) = self.owed.get_mut(request) else { continue };
            share.sources.resize(sources, [0.0; 4]);
            let part = *tokens as f64 / moved.max(1) as f64;
            share.decode += part * seconds(timings.decode_wall, self.seen.decode_wall);
            share.fuse += part * seconds(timings.fuse, self.seen.fuse);
            share.sample += part * seconds(timings.sample, self.seen.sample);
            share.drafted += part * count(timings.drafted, self.seen.drafted);
            let part_of_prompts = match self.began.len() {
                0 => part,
                began if self.began.contains(request) => 1.0 / began as f64,
                _ => 0.0,
            };
            share.prefill += part_of_prompts * seconds(timings.prefill_wall, self.seen.prefill_wall);
            for (i, of) in share.sources.iter_mut().enumerate() {
                of[0] += part_of_prompts * seconds(timings.prefill[i], self.seen.prefill[i]);
                of[1] += part * seconds(timings.forward[i], self.seen.forward[i]);
                of[2] += part_of_prompts * count(timings.prefill_tokens[i], self.seen.prefill_tokens[i]);
                of[3] += part_of_prompts * count(timings.reused_tokens[i], self.seen.reused_tokens[i]);
            }
        }
        self.moved.clear();
        self.began.clear();
        self.seen = timings.clone();
    }

    /// What these requests, which are one sample's, cost.
    pub(super) fn record(&mut self, key: String, requests: std::ops::Range<usize>, sources: &[String]) -> TimingRecord {
        let mut sum = Share { sources: vec![[0.0; 4]; sources.len()], ..Share::default() };
        for request in requests {
            let Some(share) = self.owed.remove(&request) else { continue };
            sum.tokens += share.tokens;
            sum.accepted += share.accepted;
            // One was chosen after the prompt; a round that ends a text within its draft chooses none.
            sum.rounds += share.chosen.saturating_sub(1) + usize::from(share.ends_drafted);
            sum.drafted += share.drafted;
            sum.prefill += share.prefill;
            sum.decode += share.decode;
            sum.fuse += share.fuse;
            sum.sample += share.sample;
            sum.sources.iter_mut().zip(&share.sources).for_each(|(sum, of)| {
                sum.iter_mut().zip(of).for_each(|(sum, of)| *sum += of);
            });
        }
        let source = |(name, of): (&String, &[f64; 4])| SourceTiming {
            source: name.clone(),
            prefill_seconds: of[0],
            forward_seconds: of[1],
            prefill_tokens: whole(of[2]),
            reused_tokens: whole(of[3]),
        };
        TimingRecord {
            key,
            tokens: sum.tokens,
            prefill_seconds: sum.prefill,
            decode_seconds: sum.decode,
            fuse_seconds: sum.fuse,
            sample_seconds: sum.sample,
            sources: sources.iter().zip(&sum.sources).map(source).collect(),
            drafted: whole(sum.drafted),
            accepted: sum.accepted,
            rounds: sum.rounds,
        }
    }
}

fn whole(tokens: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of parts of counts of tokens")]
    let whole = tokens.round() as usize;
    whole
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn timings(prefill: u64, decode: u64) -> Timings {
        Timings {
            prefill: vec![Duration::from_secs(prefill)],
            forward: vec![Duration::from_secs(decode)],
            prefill_tokens: vec![usize::try_from(prefill).unwrap()],
            reused_tokens: vec![0],
            prefill_wall: Duration::from_secs(prefill),
            decode_wall: Duration::from_secs(decode),
            ..Timings::default()
        }
    }

    #[test]
    fn a_round_ends_with_a_chosen_token_or_with_the_text() {
        let mut shares = Shares::default();
        // After the prompt; a draft of which two stood; one that holds the end.
        for drafted in [false, true, true, false, true] {
            shares.token(0, drafted);
        }
        shares.token(1, false);
        let of = |shares: &mut Shares, request: usize| shares.record(String::new(), request..request + 1, &[]).rounds;
        assert_eq!((of(&mut shares, 0), of(&mut shares, 1)), (2, 0));
    }

    #[test]
    fn shares_sum_up_to_the_time_that_passed() {
        let mut shares = Shares::default();
        for request in [0, 1, 1, 1] {
            shares.token(request, request == 1);
        }
        shares.divide(&timings(2, 4));
        let sources = ["L".to_owned()];
        let first = shares.record("a".to_owned(), 0..1, &sources);
        assert!((first.prefill_seconds - 1.0).abs() < 1e-12 && (first.decode_seconds - 1.0).abs() < 1e-12);
        // A third one joins; its prompt is its own.
        shares.token(2, false);
        shares.token(1, false);
        shares.divide(&timings(8, 10));
        let second = shares.record("b".to_owned(), 1..2, &sources);
        let third = shares.record("c".to_owned(), 2..3, &sources);
        assert_eq!((second.tokens, second.accepted, third.tokens), (4, 3, 1));
        assert!((second.prefill_seconds - 1.0).abs() < 1e-12 && (third.prefill_seconds - 6.0).abs() < 1e-12);
        assert!((second.decode_seconds - 6.0).abs() < 1e-12 && (third.sources[0].forward_seconds - 3.0).abs() < 1e-12);
        assert_eq!(third.sources[0].prefill_tokens, 6);
    }
}
