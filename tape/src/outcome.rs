//! What strategies made of a tape.

use std::collections::BTreeMap;

use logitfuse_core::TokenId;
use logitfuse_metrics::multiple_choice::Item;
use logitfuse_replay::TextInfo;
use serde::Serialize;

use super::Setting;

/// What one strategy made of all texts.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The parameters that were set for it.
    pub settings: Vec<Setting>,
    /// One entry per text, in the order of the tape.
    pub texts: Vec<TextOutcome>,
}

/// What one strategy made of one text.
#[derive(Clone, Debug)]
pub struct TextOutcome {
    /// The text.
    pub info: TextInfo,
    /// Sum of its tokens' fused log-probabilities, in nats.
    pub log_prob: f64,
    /// How many tokens are the ones that greedy decoding would have chosen.
    pub agreed: usize,
    /// Where greedy decoding would first have left the text, and for which token; `None` if it is the greedy text.
    pub left: Option<(usize, TokenId)>,
    /// Whether greedy decoding would have written the text, in these tokens or in others; `None` where the tape cannot say: the
    /// token for which greedy decoding left the text is another beginning of the same text.
    pub exact: Option<bool>,
    /// Tokens that the strategy gives no probability at all.
    pub masked: usize,
    /// The largest mass that a fused row gave to ids that the tape does not hold.
    pub unknown: f64,
    /// How much larger, in nats, `log_prob` could be at most if these ids had no mass at all.
    pub slack: f64,
    /// Every token, if they were asked for.
    pub tokens: Vec<TokenOutcome>,
}

/// What one strategy made of one token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenOutcome {
    /// The token of the text.
    pub token: TokenId,
    /// Its fused log-probability at temperature 1, in nats.
    pub log_prob: f64,
    /// The token that greedy decoding would have chosen.
    pub greedy: TokenId,
    /// One value per trace column of the strategy.
    pub trace: Vec<f64>,
}

/// All texts in a few numbers. Of choices only the right one counts, and all of them if the tape does not know it, except
/// for the accuracies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Texts that count.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Mean negative log-probability of a token, in nats.
    pub nll: f64,
    /// exp(nll).
    pub perplexity: f64,
    /// Bits per byte of UTF-8.
    pub bits_per_byte: f64,
    /// The part of the tokens that greedy decoding would have chosen, the text before them given.
    pub greedy_agreement: f64,
    /// The part of the texts that greedy decoding would have written from beginning to end.
    pub exact_path: f64,
    /// Texts that are not among these, and of which the tape cannot say it: greedy decoding begins them with another token.
    pub exact_open: usize,
    /// Tokens that the strategy gives no probability at all; one makes `nll` infinite.
    pub masked: usize,
    /// The part of the samples whose right choice is the most probable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc: Option<f64>,
    /// The same per character of the choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_norm: Option<f64>,
    /// The largest mass that a fused row gave to ids that the tape does not hold; 0 of dense tapes.
    pub unknown_mass: f64,
    /// How much lower, in nats per token, `nll` could be at most if those ids had no mass.
    pub unknown_nats: f64,
}

/// What one sample adds to means over samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Unit {
    pub(super) nll: f64,
    pub(super) tokens: f64,
    pub(super) agreed: f64,
    pub(super) exact: f64,
    pub(super) texts: f64,
    /// 1 if the right choice is the most probable, 0 if it is not, NaN without choices.
    pub(super) acc: f64,
    pub(super) acc_norm: f64,
}

impl Outcome {
    /// All texts in a few numbers; NaN where there is nothing to take a mean of.
    pub fn summary(&self) -> Summary {
        let counted: Vec<&TextOutcome> = self.counted().collect();
        let sum = |part: &dyn Fn(&TextOutcome) -> f64| counted.iter().map(|text| part(text)).sum::<f64>();
        let (tokens, texts) = (sum(&|text| text.info.tokens as f64), counted.len() as f64);
        let nll = -sum(&|text| text.log_prob);
        let accuracy = |part: fn(&Unit) -> f64| {
            let scores: Vec<f64> = self.units().iter().map(part).filter(|score| !score.is_nan()).collect();
            (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
        };
        Summary {
            texts: counted.len(),
            tokens: counted.iter().map(|text| text.info.tokens).sum(),
            nll: nll / tokens,
            perplexity: (nll / tokens).exp(),
            bits_per_byte: nll / std::f64::consts::LN_2 / sum(&|text| text.info.bytes as f64),
            greedy_agreement: sum(&|text| text.agreed as f64) / tokens,
            exact_path: sum(&|text| f64::from(u8::from(text.exact == Some(true)))) / texts,
            exact_open: counted.iter().filter(|text| text.exact.is_none()).count(),
            masked: counted.iter().map(|text| text.masked).sum(),
            acc: accuracy(|unit| unit.acc),
            acc_norm: accuracy(|unit| unit.acc_norm),
            unknown_mass: counted.iter().map(|text| text.unknown).fold(0.0, f64::max),
            unknown_nats: sum(&|text| text.slack) / tokens,
        }
    }

    fn counted(&self) -> impl Iterator<Item = &TextOutcome> {
        let knows_gold = self.texts.iter().any(|text| text.info.gold);
        self.texts.iter().filter(move |text| text.info.choice.is_none() || text.info.gold || !knows_gold)
    }

    /// One entry per sample, in the order of their ids' first appearance.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut samples: Vec<(Unit, Vec<&TextOutcome>)> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for text in &self.texts {
            places.entry(&text.info.id).or_insert_with(|| {
                samples.push((Unit { acc: f64::NAN, acc_norm: f64::NAN, ..Unit::default() }, Vec::new()));
                samples.len() - 1
            });
        }
        for text in self.counted() {
            let unit = &mut samples[places[text.info.id.as_str()]].0;
            unit.nll -= text.log_prob;
            unit.tokens += text.info.tokens as f64;
            unit.agreed += text.agreed as f64;
            unit.exact += f64::from(u8::from(text.exact == Some(true)));
            unit.texts += 1.0;
        }
        for text in self.texts.iter().filter(|text| text.info.choice.is_some()) {
            samples[places[text.info.id.as_str()]].1.push(text);
        }
        samples.into_iter().map(|(unit, choices)| with_accuracy(unit, &choices)).collect()
    }
}

fn with_accuracy(mut unit: Unit, choices: &[&TextOutcome]) -> Unit {
    let gold: Vec<usize> = choices.iter().enumerate().filter(|(_, c)| c.info.gold).map(|(at, _)| at).collect();
    if gold.is_empty() {
        return unit;
    }
    let log_likelihoods: Vec<f64> = choices.iter().map(|choice| choice.log_prob).collect();
    // The texts are not on the tape; of them only their lengths count.
    let lengths: Vec<String> = choices.iter().map(|choice| "x".repeat(choice.info.characters)).collect();
    let item = Item { choices: &lengths, log_likelihoods: &log_likelihoods, unconditional: None, gold: &gold };
    let accuracies = item.accuracies();
    (unit.acc, unit.acc_norm) = (f64::from(u8::from(accuracies.acc)), f64::from(u8::from(accuracies.acc_norm)));
    unit
}
