//! From a fused row to a token: settings, the logits processors that they stand for, and the draw.

mod processors;
mod sampler;

use std::collections::BTreeSet;

use logitfuse_core::{
    Error, ErrorKind, LogitsProcessor, Result, SharedVocabulary, TokenId, numerics::lanes::round_to_f32,
};

pub use self::{
    processors::{LogitBias, MinP, Penalties, Temperature, TopK, TopP},
    sampler::Sampler,
};

/// How a token is chosen from a fused row. The default is greedy, without penalties.
///
/// Each setting that has an effect is a [`LogitsProcessor`], applied in this order, each to what the one before left:
/// [`Penalties`], [`LogitBias`], the [request's own processors](crate::Request::processors), [`Temperature`], [`TopK`],
/// [`TopP`], [`MinP`].
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

    /// The processors of these settings around a request's own, in the order in which they apply. `prompt` counts for the
    /// repetition penalty only.
    fn processors(&self, prompt: &[TokenId], own: Vec<Box<dyn LogitsProcessor>>) -> Vec<Box<dyn LogitsProcessor>> {
        let mut all: Vec<Box<dyn LogitsProcessor>> = Vec::new();
        if self.penalises() {
            all.push(Box::new(Penalties::new(
                self.repetition_penalty,
                self.presence_penalty,
                self.frequency_penalty,
                prompt,
            )));
        }
        if !self.logit_bias.is_empty() {
            all.push(Box::new(LogitBias::new(self.logit_bias.clone())));
        }
        if !own.is_empty() {
            all.extend(own);
            all.push(Box::new(processors::Checked));
        }
        all.push(Box::new(Temperature(self.temperature)));
        if self.top_k > 0 {
            all.push(Box::new(TopK(self.top_k)));
        }
        if self.top_p < 1.0 {
            all.push(Box::new(TopP(self.top_p)));
        }
        if self.min_p > 0.0 {
            all.push(Box::new(MinP(self.min_p)));
        }
        all
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
        // Logits are f32, and so are the numbers that meet them.
        if !(round_to_f32(self.repetition_penalty) > 0.0 && round_to_f32(self.repetition_penalty).is_finite()) {
            return bad("repetition_penalty", self.repetition_penalty, "a number above 0");
        }
        for (name, value) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            if !round_to_f32(value).is_finite() {
                return bad(name, value, "finite");
            }
        }
        let mut ids = BTreeSet::new();
        for &(id, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                return bad(&format!("logit_bias of token {id}"), f64::from(bias), "a number or -inf");
            }
            if !ids.insert(id) {
                return Err(Error::new(ErrorKind::InvalidConfig, format!("logit_bias: token {id} is there twice"))
                    .with_help("give each token one number"));
            }
        }
        Ok(())
    }

    /// Checks that every token of [`logit_bias`](Self::logit_bias) may be generated: elsewhere a bias has no effect.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], naming the first token that may not, and how many there are.
    pub fn check_vocabulary(&self, vocabulary: &SharedVocabulary) -> Result<()> {
        let Some((id, _)) = self.logit_bias.iter().find(|(id, _)| !vocabulary.contains(*id)) else { return Ok(()) };
        let (count, width) = (vocabulary.count(), vocabulary.width());
        let what = format!(
            "logit_bias: token {id} may not be generated, and a bias has no effect: the sources share {count} tokens, with \
             ids below {width}"
        );
        Err(Error::new(ErrorKind::InvalidConfig, what).with_help("leave the token out, or correct its id"))
    }
}
