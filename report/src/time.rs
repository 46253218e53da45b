//! Where the time of a token goes, on the mean.

use std::collections::BTreeMap;

use crate::{data::Data, outline::Outline};

/// Mean milliseconds per token of one variant.
pub(crate) struct Cost {
    pub(crate) variant: String,
    pub(crate) class: String,
    /// Tokens that the means are over.
    pub(crate) tokens: usize,
    /// What happens in turn: each source's passes, fusing, sampling, and what is left of the wall clock. The last is
    /// negative where sources run at the same time.
    pub(crate) stages: Vec<Stage>,
    /// Milliseconds of wall clock per generated token.
    pub(crate) wall: f64,
    /// Milliseconds of wall clock per sample for its prompts.
    pub(crate) prompts: f64,
}

/// A part of a token's time.
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) milliseconds: f64,
}

#[derive(Default)]
struct Sum<'a> {
    samples: usize,
    tokens: usize,
    prefill: f64,
    decode: f64,
    fuse: f64,
    sample: f64,
    sources: Vec<(&'a str, f64)>,
}

/// One entry per variant with timings, in the experiment's order.
pub(crate) fn costs(data: &Data, outline: &Outline<'_>) -> Vec<Cost> {
    let variant_of: BTreeMap<String, &str> = data.samples.iter().map(|s| (s.key(), s.variant.as_str())).collect();
    let mut sums: BTreeMap<&str, Sum<'_>> = BTreeMap::new();
    for timing in &data.timings {
        let Some(variant) = variant_of.get(&timing.key) else { continue };
        let sum = sums.entry(variant).or_default();
        sum.samples += 1;
        sum.tokens = sum.tokens.saturating_add(timing.tokens);
        sum.prefill += timing.prefill_seconds;
        sum.decode += timing.decode_seconds;
        sum.fuse += timing.fuse_seconds;
        sum.sample += timing.sample_seconds;
        for source in &timing.sources {
            match sum.sources.iter_mut().find(|(name, _)| *name == source.source) {
                Some((_, seconds)) => *seconds += source.forward_seconds,
                None => sum.sources.push((&source.source, source.forward_seconds)),
            }
        }
    }
    outline.variants.iter().filter_map(|v| cost(v.name, v.class(), sums.get(v.name)?)).collect()
}

fn cost(variant: &str, class: String, sum: &Sum<'_>) -> Option<Cost> {
    if sum.tokens == 0 || sum.decode <= 0.0 {
        return None;
    }
    let per_token = |seconds: f64| seconds * 1000.0 / sum.tokens as f64;
    let mut stages: Vec<Stage> = sum
        .sources
        .iter()
        .map(|&(name, seconds)| Stage { name: name.to_owned(), milliseconds: per_token(seconds) })
        .collect();
    stages.push(Stage { name: "fusing".to_owned(), milliseconds: per_token(sum.fuse) });
    stages.push(Stage { name: "sampling".to_owned(), milliseconds: per_token(sum.sample) });
    let wall = per_token(sum.decode);
    let counted: f64 = stages.iter().map(|stage| stage.milliseconds).sum();
    stages.push(Stage { name: REST.to_owned(), milliseconds: wall - counted });
    let prompts = sum.prefill * 1000.0 / sum.samples as f64;
    Some(Cost { variant: variant.to_owned(), class, tokens: sum.tokens, stages, wall, prompts })
}

/// The stage that makes the sum the wall clock.
pub(crate) const REST: &str = "rest";
