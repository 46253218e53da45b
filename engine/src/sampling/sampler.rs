use logitfuse_core::{Candidates, LogitsProcessor, ProcessorContext, Result, SamplingRow, TokenId, numerics};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{Drafted, Sampling};

/// One sequence's sampler: its logits processors and its random stream.
///
/// ```
/// use logitfuse_engine::{Sampler, Sampling};
///
/// let mut sampler = Sampler::new(&Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() }, &[])?;
/// let candidates = sampler.candidates(&[0.0, 3.0_f32.ln(), f32::NEG_INFINITY, -1.0])?;
/// assert_eq!(candidates[0].0, 1);
/// assert!((candidates[0].1 - 0.75).abs() < 1e-6);
/// assert!([0, 1].contains(&sampler.draw(&candidates)));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub struct Sampler {
    processors: Vec<Box<dyn LogitsProcessor>>,
    greedy: bool,
    rng: ChaCha8Rng,
    /// The tokens generated so far; while tokens are drafted, the draft included.
    generated: Vec<TokenId>,
    row: SamplingRow,
    /// Buffers that were handed back.
    spare: Vec<Candidates>,
}

impl Sampler {
    /// A sampler for one sequence. `prompt` counts for the repetition penalty only.
    ///
    /// # Errors
    /// Those of [`Sampling::validate`].
    pub fn new(sampling: &Sampling, prompt: &[TokenId]) -> Result<Self> {
        Self::with_processors(sampling, prompt, Vec::new())
    }

    /// As [`new`](Self::new), with processors that apply after penalties and bias and before the temperature.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_processors(
        sampling: &Sampling,
        prompt: &[TokenId],
        own: Vec<Box<dyn LogitsProcessor>>,
    ) -> Result<Self> {
        sampling.validate()?;
        let mut processors = sampling.processors(prompt, own);
        if sampling.is_greedy() {
            processors.retain(|processor| !processor.preserves_argmax());
        }
        Ok(Self {
            processors,
            greedy: sampling.is_greedy(),
            rng: ChaCha8Rng::seed_from_u64(sampling.seed),
            generated: Vec::new(),
            row: SamplingRow::new(),
            spare: Vec::new(),
        })
    }

    /// Remembers a generated token.
    ///
    /// # Errors
    /// Those of a logits processor.
    pub fn commit(&mut self, token: TokenId) -> Result<()> {
        self.generated.push(token);
        self.processors.iter_mut().try_for_each(|processor| processor.commit(token))
    }

    /// Forgets the last `n` tokens.
    pub(crate) fn rollback(&mut self, n: usize) -> Result<()> {
        if n == 0 {
            return Ok(());
        }
        self.generated.truncate(self.generated.len().saturating_sub(n));
        self.processors.iter_mut().try_for_each(|processor| processor.rollback(n))
    }

    /// Makes room for a text of so many tokens.
    pub(crate) fn reserve(&mut self, tokens: usize) {
        self.generated.reserve(tokens);
    }

    /// Takes a buffer back, for the next position.
    pub(crate) fn reuse(&mut self, candidates: Candidates) {
        self.spare.push(candidates);
    }

    /// The tokens that may follow after all processors, with their probabilities; most probable first where `top_k` or
    /// `top_p` is on, in order of id otherwise. Empty if every token is banned.
    ///
    /// # Errors
    /// Those of a logits processor.
    pub fn candidates(&mut self, row: &[f32]) -> Result<Candidates> {
        let mut kept = self.buffer(row.len());
        if self.greedy && self.processors.is_empty() {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "vocabularies are far below 2^32, ids are u32 throughout"
            )]
            kept.push((numerics::argmax(row) as TokenId, 1.0));
            return Ok(kept);
        }
        self.row.reset(row);
        let context = ProcessorContext::new(&self.generated);
        for processor in &mut self.processors {
            processor.apply(&context, &mut self.row)?;
        }
        if !self.greedy {
            return Ok(self.row.take_candidates(kept));
        }
        kept.extend(self.row.argmax().map(|best| (best, 1.0)));
        Ok(kept)
    }

    /// Draws a draft from a drafter's row and commits it; `None` if no token may follow. `log_normaliser` is the row's.
    pub(crate) fn draft(&mut self, row: &[f32], log_normaliser: f64) -> Result<Option<Drafted>> {
        let candidates = self.candidates(row)?;
        if candidates.is_empty() {
            return Ok(None);
        }
        let token = self.draw(&candidates);
        let confidence = match candidates[..] {
            [_] if self.greedy && self.processors.is_empty() => (f64::from(row[token as usize]) - log_normaliser).exp(),
            [_] => {
                let logits = self.row.logits();
                (f64::from(logits[token as usize]) - numerics::log_sum_exp(logits)).exp()
            }
            _ => candidates.iter().find(|c| c.0 == token).map_or(0.0, |c| c.1),
        };
        self.commit(token)?;
        Ok(Some(Drafted { token, candidates, confidence }))
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
        let mut drafter = self.buffer(draft.candidates.len());
        drafter.extend_from_slice(&draft.candidates);
        drafter.sort_unstable_by_key(|c| c.0);
        let drafted = |id| drafter.binary_search_by_key(&id, |c| c.0).map_or(0.0, |at| drafter[at].1);
        let mut residual = self.buffer(candidates.len());
        residual.extend(candidates.iter().map(|&(id, p)| (id, (p - drafted(id)).max(0.0))));
        let mass: f64 = residual.iter().map(|c| c.1).sum();
        let token = if mass > 0.0 {
            for (_, p) in &mut residual {
                *p /= mass;
            }
            self.draw(&residual)
        } else {
            // The two are equal but for rounding.
            self.draw(candidates)
        };
        self.reuse(drafter);
        self.reuse(residual);
        (token, false)
    }

    /// An empty buffer with room for whatever a row of so many entries may leave.
    fn buffer(&mut self, entries: usize) -> Candidates {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        if !self.greedy {
            buffer.reserve(entries.max(self.row.logits().len()));
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
}
#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(sampling: &Sampling, row: &[f32]) -> Vec<TokenId> {
        let mut sampler = Sampler::new(sampling, &[]).unwrap();
        sampler.candidates(row).unwrap().into_iter().map(|c| c.0).collect()
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
        sampler.commit(1).unwrap();
        sampler.commit(1).unwrap();
        sampler.candidates(&ROW).unwrap();
        assert_eq!(sampler.row.logits(), [3.0, 1.0 - 0.5 - 0.5, f32::NEG_INFINITY, 2.0, -2.0]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let mut sampler = Sampler::new(&Sampling { temperature: 1.0, seed: 7, ..Sampling::default() }, &[]).unwrap();
        let row = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let mut counts = [0_u32; 3];
        for _ in 0..20_000 {
            let c = sampler.candidates(&row).unwrap();
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
                    let c = sampler.candidates(&[0.0; 50]).unwrap();
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
        // What rounds to 0 or to infinity in f32 makes no number of a logit.
        for (sampling, name) in [
            (Sampling { repetition_penalty: 1e-60, ..Sampling::default() }, "repetition_penalty"),
            (Sampling { repetition_penalty: 1e60, ..Sampling::default() }, "repetition_penalty"),
            (Sampling { presence_penalty: -1e60, ..Sampling::default() }, "presence_penalty"),
            (Sampling { frequency_penalty: 1e60, ..Sampling::default() }, "frequency_penalty"),
            (Sampling { logit_bias: vec![(3, f32::NAN)], ..Sampling::default() }, "logit_bias of token 3"),
        ] {
            assert!(sampling.validate().unwrap_err().to_string().starts_with(name));
        }
        let twice = Sampling { logit_bias: vec![(3, 1.0), (4, 1.0), (3, 2.0)], ..Sampling::default() };
        assert_eq!(twice.validate().unwrap_err().to_string(), "logit_bias: token 3 is there twice");
    }

    #[test]
    fn penalties_and_bias_leave_numbers_whatever_their_size() {
        let sampling = Sampling {
            repetition_penalty: 1e-37,
            presence_penalty: -3e38,
            frequency_penalty: -3e38,
            logit_bias: vec![(0, 3.4e38), (1, 3.4e38), (3, -3.4e38), (4, 1.0)],
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&sampling, &[0, 4]).unwrap();
        for token in [1, 1, 2] {
            sampler.commit(token).unwrap();
        }
        sampler.candidates(&[3e38, 2.0, -3e38, -3e38, f32::NEG_INFINITY]).unwrap();
        assert_eq!(sampler.row.logits(), [f32::MAX, f32::MAX, f32::MAX, f32::MIN, f32::NEG_INFINITY]);
    }
}
