//! Accuracies of multiple choice, from the log-likelihoods of the choices.
//!
//! Why: a model "answers" with the choice that it finds most likely, but a longer text is less likely for being long, so
//! there are several ways to be fair to it. These are lm-eval 0.4.13's, to the tie and the empty choice.
//!
//! ```
//! use logitfuse_metrics::multiple_choice::Item;
//!
//! let item = Item { choices: &["yes", "certainly not"], log_likelihoods: &[-2.0, -4.0], unconditional: None, gold: &[1] };
//! let acc = item.accuracies();
//! assert_eq!((acc.acc, acc.acc_norm, acc.acc_bytes, acc.acc_mutual_info), (false, true, true, None));
//! ```
//!
//! | metric | the choice with the greatest |
//! |---|---|
//! | `acc` | sum of log-likelihoods, in nats |
//! | `acc_norm` | the same per Unicode character of the choice, its delimiter not counted |
//! | `acc_bytes` | the same per byte of UTF-8 |
//! | `acc_mutual_info` | the same less the choice's log-likelihood after an empty context |
//!
//! The first of equal choices wins. NaN wins over everything, as in `numpy.argmax`: it comes up for an empty choice with a
//! log-likelihood of 0.

/// One item: its choices, their log-likelihoods and the right ones.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a, S> {
    /// The choices' texts, without the delimiter before them.
    pub choices: &'a [S],
    /// The log-likelihood of each choice given the context, in nats; as many as there are choices.
    pub log_likelihoods: &'a [f64],
    /// The log-likelihood of each choice given nothing, in nats, for `acc_mutual_info`.
    pub unconditional: Option<&'a [f64]>,
    /// Which choices are right; one of them is enough.
    pub gold: &'a [usize],
}

/// Whether each way of choosing is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accuracies {
    /// By log-likelihood.
    pub acc: bool,
    /// By log-likelihood per character.
    pub acc_norm: bool,
    /// By log-likelihood per byte.
    pub acc_bytes: bool,
    /// By what the context adds to the log-likelihood; `None` without unconditional ones.
    pub acc_mutual_info: Option<bool>,
}

impl<S: AsRef<str>> Item<'_, S> {
    /// The choice that `acc` takes; `None` without choices.
    pub fn best(&self) -> Option<usize> {
        argmax(self.log_likelihoods)
    }

    /// Whether each way of choosing is right.
    pub fn accuracies(&self) -> Accuracies {
        let right = |scores: Vec<f64>| argmax(&scores).is_some_and(|best| self.gold.contains(&best));
        let per = |length: fn(&str) -> usize| {
            let lengths = self.choices.iter().map(|choice| length(choice.as_ref()) as f64);
            right(self.log_likelihoods.iter().zip(lengths).map(|(ll, length)| ll / length).collect())
        };
        Accuracies {
            acc: right(self.log_likelihoods.to_vec()),
            acc_norm: per(|choice| choice.chars().count()),
            acc_bytes: per(str::len),
            acc_mutual_info: self
                .unconditional
                .map(|free| right(self.log_likelihoods.iter().zip(free).map(|(given, free)| given - free).collect())),
        }
    }
}

/// The first greatest, or the first NaN: `numpy.argmax`.
fn argmax(scores: &[f64]) -> Option<usize> {
    if let Some(nan) = scores.iter().position(|score| score.is_nan()) {
        return Some(nan);
    }
    (0..scores.len()).reduce(|best, next| if scores[next] > scores[best] { next } else { best })
}
