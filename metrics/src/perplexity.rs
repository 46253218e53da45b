//! Perplexities and bits per byte, from summed log-likelihoods.
//!
//! Why: perplexity per token depends on the tokenizer, so texts are compared per word or per byte of the *original* text,
//! over the whole corpus: the sums are divided, not the texts' perplexities averaged. This is lm-eval 0.4.13's way.
//!
//! ```
//! use logitfuse_metrics::perplexity::Corpus;
//!
//! let mut corpus = Corpus::default();
//! corpus.add("to be or not", -8.0 * std::f64::consts::LN_2);
//! assert_eq!(corpus.word_perplexity(), 4.0);
//! assert_eq!(corpus.bits_per_byte(), 8.0 / 12.0);
//! ```
//!
//! | metric | with L the sum of log-likelihoods in nats | unit |
//! |---|---|---|
//! | word perplexity | exp(−L / words) | 1 per word |
//! | byte perplexity | exp(−L / bytes) | 1 per byte |
//! | bits per byte | −L / (bytes · ln 2) | bits per byte of UTF-8 |
//!
//! Words are counted as Python's `len(re.split(r"\s+", text))`: white space at an end counts one word more, and an empty
//! text has one.

use crate::python;

/// Sums over a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Corpus {
    log_likelihood: f64,
    words: usize,
    bytes: usize,
}

impl Corpus {
    /// Adds a text and its log-likelihood, in nats.
    pub fn add(&mut self, text: &str, log_likelihood: f64) {
        self.log_likelihood += log_likelihood;
        self.words += word_count(text);
        self.bytes += text.len();
    }

    /// exp(−L / words); NaN for an empty corpus.
    pub fn word_perplexity(&self) -> f64 {
        (-self.log_likelihood / self.words as f64).exp()
    }

    /// exp(−L / bytes); NaN for an empty corpus.
    pub fn byte_perplexity(&self) -> f64 {
        (-self.log_likelihood / self.bytes as f64).exp()
    }

    /// −L / (bytes · ln 2); NaN for an empty corpus.
    pub fn bits_per_byte(&self) -> f64 {
        -(self.log_likelihood / self.bytes as f64) / std::f64::consts::LN_2
    }
}

/// Words as lm-eval counts them: the pieces between runs of white space, the empty ones at the ends included.
///
/// ```
/// use logitfuse_metrics::perplexity::word_count;
///
/// assert_eq!(["", "a b", " a  b\n"].map(word_count), [1, 2, 4]);
/// ```
pub fn word_count(text: &str) -> usize {
    let mut inside = false;
    let runs = text.chars().filter(|c| !std::mem::replace(&mut inside, python::is_space(*c)) && python::is_space(*c));
    runs.count() + 1
}

/// exp of the mean negative log-likelihood of items: lm-eval's `perplexity` of `loglikelihood` tasks such as LAMBADA.
/// NaN without items.
pub fn perplexity(log_likelihoods: &[f64]) -> f64 {
    (-(log_likelihoods.iter().sum::<f64>() / log_likelihoods.len() as f64)).exp()
}
