//! Which items are shown before an item, and how.

use std::path::Path;

use logitfuse_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{Doc, python_random::PythonRandom};
use logitfuse_config::{FewshotConfig, Sampler};
use logitfuse_pipeline::read_jsonl;

/// Most demonstrations over all items, which are chosen before the first is shown.
const MOST_SHOTS: usize = 20_000_000;

/// The demonstrations of all items of a task, chosen once, so that what an item is shown depends neither on a shard nor on
/// where a run goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shots {
    /// What can be shown.
    pub(crate) pool: Vec<Map<String, Value>>,
    /// For each item, which of the pool.
    pub(crate) of: Vec<Vec<usize>>,
    pub(crate) separator: String,
}

impl Shots {
    /// Chooses for each of `docs`, which were read from `data`. `all` is everything in there.
    pub(crate) fn choose(config: &FewshotConfig, data: &Path, all: &[Doc], docs: &[Doc]) -> Result<Self> {
        let own = config.data.as_deref().is_none_or(|path| path == data);
        let pool = match &config.data {
            Some(path) if !own => {
                let mut samples = Vec::new();
                read_jsonl(path, &mut samples)?;
                samples.into_iter().filter_map(|sample| sample.fields.as_object().cloned()).collect()
            }
            _ => all.iter().map(|doc| doc.fields.clone()).collect::<Vec<_>>(),
        };
        if docs.len().saturating_mul(config.n) > MOST_SHOTS {
            let what = format!("fewshot.n: {} for each of {} items are more than {MOST_SHOTS}", config.n, docs.len());
            return Err(Error::new(ErrorKind::InvalidConfig, what).with_help("lower n, or set a limit"));
        }
        let mut random = PythonRandom::new(config.seed);
        let mut of = Vec::with_capacity(docs.len());
        for doc in docs {
            // An item must not see its own answer, wherever it stands in the data.
            let is_other = |&i: &usize| !own || pool[i] != doc.fields;
            let chosen: Vec<usize> = match config.sampler {
                Sampler::FirstN => (0..pool.len()).filter(is_other).take(config.n).collect(),
                Sampler::Seeded => draw(&mut random, &pool, config.n, own, is_other),
            };
            if chosen.len() < config.n {
                let (there, wanted) = (chosen.len(), config.n);
                let what = format!("fewshot.n: {wanted} are wanted and there are {there} for item `{}`", doc.id);
                return Err(Error::new(ErrorKind::InvalidConfig, what)
                    .with_help("lower n, or name a larger file in fewshot.data; an item is never shown to itself"));
            }
            of.push(chosen);
        }
        Ok(Self { pool, of, separator: config.separator.clone() })
    }
}

impl Shots {
    /// The demonstrations that some item is shown, each once.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Map<String, Value>> {
        let mut used = vec![false; self.pool.len()];
        self.of.iter().flatten().for_each(|&shot| used[shot] = true);
        self.pool.iter().zip(used).filter_map(|(fields, used)| used.then_some(fields))
    }
}

/// As lm-eval's `ContextSampler` draws: one more than wanted where the item may be among them, and again from the others
/// if it was there more than once.
fn draw(
    random: &mut PythonRandom,
    pool: &[Map<String, Value>],
    n: usize,
    own: bool,
    is_other: impl Fn(&usize) -> bool,
) -> Vec<usize> {
    if n == 0 {
        return Vec::new();
    }
    let wanted = n + usize::from(own);
    if wanted > pool.len() {
        return (0..pool.len()).filter(is_other).collect();
    }
    let mut drawn: Vec<usize> = random.sample(pool.len(), wanted).into_iter().filter(&is_other).collect();
    if drawn.len() < n {
        let others: Vec<usize> = (0..pool.len()).filter(is_other).collect();
        if others.len() < n {
            return others;
        }
        drawn = random.sample(others.len(), n).into_iter().map(|i| others[i]).collect();
    }
    drawn.truncate(n);
    drawn
}
