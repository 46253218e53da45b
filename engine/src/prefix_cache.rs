//! Beginnings that prompts share are run once.

use std::collections::VecDeque;

use logitfuse_core::{SequenceId, TokenId};

use crate::SourcePool;

/// Shorter beginnings are not worth a sequence of their own.
const SHORTEST: usize = 64;
/// Prompts that a new one is compared with: those of several roles take turns, and an odd one may come between.
const RECENT: usize = 8;

/// Sequences that hold the beginnings of prompts, to be forked by prompts that begin alike: few-shot demonstrations, a
/// system text. One is kept as soon as two recent prompts share it, and the least recently used go first when the budget is
/// spent.
pub(crate) struct PrefixCache {
    /// Bytes of key/value cache that all of them may hold.
    budget: u64,
    sources: Vec<SourcePrefixes>,
    clock: u64,
}

#[derive(Default)]
struct SourcePrefixes {
    /// The prompts before, oldest first.
    recent: VecDeque<Vec<TokenId>>,
    entries: Vec<PrefixEntry>,
}

struct PrefixEntry {
    tokens: Vec<TokenId>,
    sequence: SequenceId,
    used: u64,
}

/// What the cache has for a prompt.
pub(crate) struct Lookup {
    /// A sequence that holds the first `hit` tokens of the prompt, and more perhaps.
    pub(crate) parent: Option<SequenceId>,
    pub(crate) hit: usize,
    /// A longer beginning that a recent prompt shares and that is worth keeping; 0 if there is none.
    pub(crate) shared: usize,
}

impl PrefixCache {
    pub(crate) fn new(sources: usize, budget: u64) -> Self {
        Self { budget, sources: std::iter::repeat_with(SourcePrefixes::default).take(sources).collect(), clock: 0 }
    }

    /// Looks a prompt up and remembers it. `multiple_of`: beginnings are cut at multiples of a source's chunk, so that rows
    /// keep their bits whether or not the beginning was there already. The last token is fed in any case: its row is what
    /// the prompt is for.
    pub(crate) fn look_up(
        &mut self,
        pool: &SourcePool,
        source: usize,
        prompt: &[TokenId],
        multiple_of: usize,
    ) -> Lookup {
        let info = pool.info(source);
        let (chunk, bytes_per_token) = (info.chunk_tokens.max(1), info.kv_bytes_per_token);
        let mut found = Lookup { parent: None, hit: 0, shared: 0 };
        if bytes_per_token == 0 || self.budget == 0 || !multiple_of.is_multiple_of(chunk) {
            return found;
        }
        let cut = |len: usize| len.min(prompt.len() - 1) / chunk * chunk;
        let known = &mut self.sources[source];
        let shared = known.recent.iter().map(|recent| cut(common(recent, prompt))).max().unwrap_or(0);
        if known.recent.len() == RECENT {
            known.recent.pop_front();
        }
        known.recent.push_back(prompt.to_vec());
        let best = known.entries.iter().enumerate().map(|(at, entry)| (cut(common(&entry.tokens, prompt)), at)).max();
        if let Some((hit, at)) = best.filter(|&(hit, _)| hit >= SHORTEST) {
            self.clock += 1;
            known.entries[at].used = self.clock;
            (found.parent, found.hit) = (Some(known.entries[at].sequence), hit);
        }
        if shared >= SHORTEST && shared > found.hit && shared as u64 * bytes_per_token <= self.budget {
            found.shared = shared;
        }
        found
    }

    /// Keeps a sequence that holds these tokens.
    pub(crate) fn insert(&mut self, source: usize, tokens: &[TokenId], sequence: SequenceId) {
        self.clock += 1;
        self.sources[source].entries.push(PrefixEntry { tokens: tokens.to_vec(), sequence, used: self.clock });
    }

    /// Releases the least recently used entries until the budget holds.
    pub(crate) fn evict(&mut self, pool: &SourcePool) {
        loop {
            let held = self.sources.iter().zip(pool.sources()).map(|(known, info)| {
                let tokens: usize = known.entries.iter().map(|entry| entry.tokens.len()).sum();
                tokens as u64 * info.kv_bytes_per_token
            });
            if held.sum::<u64>() <= self.budget {
                return;
            }
            let all = self.sources.iter().enumerate();
            let all = all.flat_map(|(s, known)| known.entries.iter().enumerate().map(move |(at, e)| (e.used, s, at)));
            let Some((_, source, at)) = all.min() else { return };
            let entry = self.sources[source].entries.swap_remove(at);
            pool.close(source, entry.sequence);
        }
    }

    /// Releases all entries.
    pub(crate) fn clear(&mut self, pool: &SourcePool) {
        for (source, known) in self.sources.iter_mut().enumerate() {
            known.recent.clear();
            known.entries.drain(..).for_each(|entry| pool.close(source, entry.sequence));
        }
    }
}

fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
