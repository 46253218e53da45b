use std::collections::BTreeMap;

use logitfuse_core::{Error, ErrorKind, Result, TokenId, numerics};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::Drafted;

/// How a token is chosen from a fused row. The default is greedy, without penalties.
///
/// Applied in this order, each to what the one before left: penalties and bias, temperature, `top_k`, `top_p`, `min_p`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most probable token (ties: the smallest id); above 0 the logits are divided by it.
    pub temperature: f64,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of most probable tokens that holds this much mass; 1 keeps all.
    pub top_p: f64,
    /// Keep tokens at least this fraction as probable as the most probable one; 0 keeps all.
    pub min_p: f64,
    /// Divides the positive and multiplies the negative logits of tokens seen in the first role's prompt or generated;
    /// 1 is off (Keskar et al. 2019, eq. in §4.1, in the form that all engines use).
    pub repetition_penalty: f64,
    /// Subtracted from the logit of every token that was generated at least once; 0 is off.
    pub presence_penalty: f64,
    /// Subtracted from a token's logit once per time that it was generated; 0 is off.
    pub frequency_penalty: f64,
    /// Added to single logits; `-inf` bans a token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Seed of the sequence's own `ChaCha8` stream.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Whether what was generated changes what may follow.
    #[expect(clippy::float_cmp, reason = "the values that change nothing")]
    fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Whether nothing is drawn.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks every value; the message names the first that is out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |what: &str, value: f64, range: &str| {
            Err(Error::new(ErrorKind::InvalidConfig, format!("{what} = {value} is not {range}"))
                .with_help("leave it out for no effect, or give a value in that range"))
        };
        // Written so that NaN fails every one.
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature, "a number of at least 0");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p, "above 0 and at most 1");
        }
        if !(self.min_p >= 0.0 && self.min_p <= 1.0) {
            return bad("min_p", self.min_p, "between 0 and 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return bad("repetition_penalty", self.repetition_penalty, "a number above 0");
        }
        for (name, value) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            if !value.is_finite() {
                return bad(name, value, "finite");
            }
        }
        for &(id, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                return bad(&format!("logit_bias of token {id}"), f64::from(bias), "a number or -inf");
            }
        }
        Ok(())
    }
}

/// Tokens that survived truncation with their probabilities, which sum to 1.
pub type Candidates = Vec<(TokenId, f64)>;

/// One sequence's chooser: its penalties' memory and its random stream.
///
/// ```
/// use logitfuse_engine::{Sampler, Sampling};
///
/// let mut sampler = Sampler::new(&Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() }, &[])?;
/// let candidates = sampler.candidates(&[0.0, 3.0_f32.ln(), f32::NEG_INFINITY, -1.0]);
/// assert_eq!(candidates[0].0, 1);
/// assert!((candidates[0].1 - 0.75).abs() < 1e-6);
/// assert!([0, 1].contains(&sampler.draw(&candidates)));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    /// How often each token was generated; 0 for those that only the prompt holds.
    seen: BTreeMap<TokenId, u32>,
    /// The row after penalties and temperature.
    logits: Vec<f32>,
    probs: Vec<f32>,
    /// Buffers that were handed back.
    spare: Vec<Candidates>,
}

impl Sampler {
    /// A sampler for one sequence. `prompt` counts for the repetition penalty only.
    pub fn new(sampling: &Sampling, prompt: &[TokenId]) -> Result<Self> {
        sampling.validate()?;
        Ok(Self {
            rng: ChaCha8Rng::seed_from_u64(sampling.seed),
            seen: if sampling.penalises() { prompt.iter().map(|&id| (id, 0)).collect() } else { BTreeMap::new() },
            sampling: sampling.clone(),
            logits: Vec::new(),
            probs: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// Remembers a generated token.
    pub fn commit(&mut self, token: TokenId) {
        if self.sampling.penalises() {
            *self.seen.entry(token).or_insert(0) += 1;
        }
    }

    /// Takes a buffer back, for the next position.
    pub(crate) fn reuse(&mut self, candidates: Candidates) {
        self.spare.push(candidates);
    }

    /// The tokens that may follow after penalties, bias, temperature and truncation; most probable first where `top_k` or
    /// `top_p` is on, in order of id otherwise. The row must hold one finite entry; if the bias bans all of them the
    /// result is empty.
    pub fn candidates(&mut self, row: &[f32]) -> Candidates {
        self.logits.clear();
        self.logits.extend_from_slice(row);
        self.penalise();
        let best = numerics::argmax(&self.logits);
        if self.logits[best] == f32::NEG_INFINITY {
            return Vec::new();
        }
        let mut kept = self.buffer();
        #[expect(clippy::cast_possible_truncation, reason = "f32 rows, f32 scale")]
        let scale = (1.0 / self.sampling.temperature) as f32;
        if !scale.is_finite() {
            // Zero, or so close to it that nothing but the best is left.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "vocabularies are far below 2^32, ids are u32 throughout"
            )]
            kept.push((best as TokenId, 1.0));
            return kept;
        }
        // Shifted first: a small temperature must not overflow what it leaves of the best.
        let shift = self.logits[best];
        for x in &mut self.logits {
            *x = (*x - shift) * scale;
        }
        self.probs.resize(self.logits.len(), 0.0);
        numerics::softmax(&self.logits, numerics::log_sum_exp(&self.logits), &mut self.probs);
        self.truncate(f64::from(self.probs[best]), &mut kept);
        let mass: f64 = kept.iter().map(|&(_, p)| p).sum();
        for (_, p) in &mut kept {
            *p /= mass;
        }
        kept
    }

    /// What the penalties know, to be handed back to [`recall`](Self::recall) after drafting.
    pub(crate) fn memory(&self) -> BTreeMap<TokenId, u32> {
        self.seen.clone()
    }

    pub(crate) fn recall(&mut self, memory: BTreeMap<TokenId, u32>) {
        self.seen = memory;
    }

    /// Draws a draft from a drafter's row and counts it as generated; `None` if nothing may follow.
    pub(crate) fn draft(&mut self, row: &[f32]) -> Option<Drafted> {
        let candidates = self.candidates(row);
        if candidates.is_empty() {
            return None;
        }
        let token = self.draw(&candidates);
        let confidence = match candidates[..] {
            [_] => (f64::from(self.logits[token as usize]) - numerics::log_sum_exp(&self.logits)).exp(),
            _ => candidates.iter().find(|c| c.0 == token).map_or(0.0, |c| c.1),
        };
        self.commit(token);
        Some(Drafted { token, candidates, confidence })
    }

    /// The token at a position that was drafted, and whether it is the draft: accepted with probability `min(1, p/q)`,
    /// else drawn from the positive part of `p - q`. Its distribution is `candidates`, whatever was drafted.
    ///
    /// # Panics
    /// If there is no candidate.
    pub fn verify(&mut self, draft: &Drafted, candidates: &Candidates) -> (TokenId, bool) {
        let probability = |of: &Candidates| of.iter().find(|c| c.0 == draft.token).map_or(0.0, |c| c.1);
        let (p, q) = (probability(candidates), probability(&draft.candidates));
        if let [(only, _)] = candidates[..] {
            return (only, only == draft.token);
        }
        if p >= q || self.uniform() * q < p {
            return (draft.token, true);
        }
        let mut drafter = self.buffer();
        drafter.extend_from_slice(&draft.candidates);
        drafter.sort_unstable_by_key(|c| c.0);
        let drafted = |id| drafter.binary_search_by_key(&id, |c| c.0).map_or(0.0, |at| drafter[at].1);
        let mut rest = self.buffer();
        rest.extend(candidates.iter().map(|&(id, p)| (id, (p - drafted(id)).max(0.0))));
        let mass: f64 = rest.iter().map(|c| c.1).sum();
        let token = if mass > 0.0 {
            for (_, p) in &mut rest {
                *p /= mass;
            }
            self.draw(&rest)
        } else {
            // The two are equal but for rounding.
            self.draw(candidates)
        };
        self.reuse(drafter);
        self.reuse(rest);
        (token, false)
    }

    /// An empty buffer with room for whatever a row may leave.
    fn buffer(&mut self) -> Candidates {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        if !self.sampling.is_greedy() {
            buffer.reserve(self.logits.len());
        }
        buffer
    }

    /// 53 random bits: every multiple of 2^-53 in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Chooses by inverting the cumulative distribution at one draw of the stream. Greedy draws nothing.
    ///
    /// # Panics
    /// If there is no candidate.
    pub fn draw(&mut self, candidates: &Candidates) -> TokenId {
        assert!(!candidates.is_empty(), "a draw needs a candidate");
        if let [(only, _)] = candidates[..] {
            return only;
        }
        let mut left = self.uniform();
        for &(id, p) in candidates {
            left -= p;
            if left < 0.0 {
                return id;
            }
        }
        // Rounding left a sliver beyond the last candidate with mass.
        candidates.iter().rev().find(|c| c.1 > 0.0).map_or(candidates[0].0, |c| c.0)
    }

    fn penalise(&mut self) {
        let (s, row) = (&self.sampling, &mut self.logits);
        #[expect(clippy::cast_possible_truncation, reason = "f32 rows, f32 penalties")]
        let (repetition, presence, frequency) =
            (s.repetition_penalty as f32, s.presence_penalty as f32, s.frequency_penalty as f32);
        // With everything off this divides by one and subtracts zero: the row keeps its bits.
        for (&id, &count) in &self.seen {
            let Some(x) = row.get_mut(id as usize) else { continue };
            *x = if *x > 0.0 { *x / repetition } else { *x * repetition };
            if count > 0 {
                *x -= presence + frequency * count as f32;
            }
        }
        for &(id, bias) in &s.logit_bias {
            if let Some(x) = row.get_mut(id as usize) {
                *x += bias;
            }
        }
    }

    fn truncate(&self, best: f64, kept: &mut Candidates) {
        let s = &self.sampling;
        if s.top_k > 0 {
            *kept = sorted(&self.probs, s.top_k);
        } else if s.top_p < 1.0 {
            // The nucleus is small almost always, so look at a few before sorting many.
            let mut k = 64;
            loop {
                *kept = sorted(&self.probs, k);
                let mass: f64 = kept.iter().map(|&(_, p)| p).sum();
                if mass >= s.top_p || kept.len() >= self.probs.len() {
                    break;
                }
                k *= 8;
            }
        } else {
            kept.extend((0..).zip(&self.probs).filter(|&(_, &p)| p > 0.0).map(|(id, &p)| (id, f64::from(p))));
        }
        if s.top_p < 1.0 {
            let total: f64 = if s.top_k > 0 { kept.iter().map(|&(_, p)| p).sum() } else { 1.0 };
            let mut mass = 0.0;
            let end = kept.iter().position(|&(_, p)| {
                mass += p;
                mass >= s.top_p * total
            });
            kept.truncate(end.map_or(kept.len(), |last| last + 1));
        }
        if s.min_p > 0.0 {
            kept.retain(|&(_, p)| p >= s.min_p * best);
        }
    }
}

/// The `k` most probable, descending, ties by id, zeros dropped.
fn sorted(probs: &[f32], k: usize) -> Candidates {
    let top = numerics::top_k(probs, k.min(probs.len()));
    top.into_iter().filter(|&(_, p)| p > 0.0).map(|(id, p)| (id, f64::from(p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(sampling: &Sampling, row: &[f32]) -> Vec<TokenId> {
        let mut sampler = Sampler::new(sampling, &[]).unwrap();
        sampler.candidates(row).into_iter().map(|c| c.0).collect()
    }

    const ROW: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -1.0];

    #[test]
    fn greedy_takes_the_smallest_id_of_a_tie() {
        assert_eq!(candidates(&Sampling::default(), &ROW), [1]);
    }

    #[test]
    fn truncations_keep_what_they_say() {
        let base = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(candidates(&Sampling { top_k: 3, ..base.clone() }, &ROW), [1, 3, 2]);
        // e^2 + e^2 of e^2 + e^2 + e + 1 + 1/e: 0.783 of the mass.
        assert_eq!(candidates(&Sampling { top_p: 0.78, ..base.clone() }, &ROW), [1, 3]);
        assert_eq!(candidates(&Sampling { top_p: 0.79, ..base.clone() }, &ROW), [1, 3, 2]);
        assert_eq!(candidates(&Sampling { min_p: 0.3, ..base.clone() }, &ROW), [1, 2, 3]);
        assert_eq!(candidates(&base, &ROW).len(), 5);
    }

    #[test]
    fn penalties_count_the_generated_and_the_prompt_as_they_should() {
        let sampling = Sampling {
            repetition_penalty: 2.0,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            logit_bias: vec![(0, 3.0), (2, f32::NEG_INFINITY)],
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&sampling, &[4]).unwrap();
        sampler.commit(1);
        sampler.commit(1);
        sampler.candidates(&ROW);
        assert_eq!(sampler.logits, [3.0, 1.0 - 0.5 - 0.5, f32::NEG_INFINITY, 2.0, -2.0]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let mut sampler = Sampler::new(&Sampling { temperature: 1.0, seed: 7, ..Sampling::default() }, &[]).unwrap();
        let row = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let mut counts = [0_u32; 3];
        for _ in 0..20_000 {
            let c = sampler.candidates(&row);
            counts[sampler.draw(&c) as usize] += 1;
        }
        // Chi-square with 2 degrees of freedom; 13.8 is its 99.9 % point, and the seed is fixed.
        let chi: f64 =
            counts.iter().zip([10_000.0, 6_000.0, 4_000.0]).map(|(&n, e)| (f64::from(n) - e).powi(2) / e).sum();
        assert!(chi < 13.8, "{counts:?}");
    }

    #[test]
    fn a_stream_depends_on_its_seed_alone() {
        let run = |seed| {
            let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
            let mut sampler = Sampler::new(&sampling, &[]).unwrap();
            (0..32)
                .map(|_| {
                    let c = sampler.candidates(&[0.0; 50]);
                    sampler.draw(&c)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let e = Sampling { top_p: f64::NAN, ..Sampling::default() }.validate().unwrap_err();
        assert_eq!(e.to_string(), "top_p = NaN is not above 0 and at most 1");
    }
}
