//! Beginnings that prompts share are run once.

use std::collections::VecDeque;

use logitfuse_core::{Result, SequenceId, TokenId};

use crate::{Engine, Timings, sequence::Slot, step::PIECE};

/// Shorter beginnings are not worth a sequence of their own.
const LEAST: usize = 64;
/// Prompts that a new one is compared with: those of several roles take turns, and an odd one may come between.
const REMEMBERED: usize = 8;

/// Sequences that hold the beginnings of prompts, to be forked by prompts that begin alike: few-shot demonstrations, a
/// system text. One is kept as soon as two prompts of late share it, and the least recently used go first when the
/// budget is spent.
pub(crate) struct Prefixes {
    /// Bytes of key/value cache that all of them may hold.
    budget: u64,
    /// By source.
    sources: Vec<Known>,
    clock: u64,
}

#[derive(Default)]
struct Known {
    /// The prompts before, oldest first.
    recent: VecDeque<Vec<TokenId>>,
    kept: Vec<Kept>,
}

struct Kept {
    tokens: Vec<TokenId>,
    sequence: SequenceId,
    used: u64,
}

impl Prefixes {
    pub(crate) fn new(sources: usize, budget: u64) -> Self {
        Self { budget, sources: std::iter::repeat_with(Known::default).take(sources).collect(), clock: 0 }
    }
}

impl Engine {
    /// Gives a slot that holds nothing yet the longest beginning of its prompt that is kept, having run one first if this
    /// prompt and a recent one share it. `proceed` is asked before long work; false breaks off and is returned.
    pub(crate) fn reuse(
        &mut self,
        slot: &mut Slot,
        reach: usize,
        timings: &mut Timings,
        proceed: &mut dyn FnMut(usize) -> bool,
    ) -> Result<bool> {
        let info = self.workers[slot.source].info();
        // Cut where a chunk ends, rows keep their bits whether or not the beginning was there already. The last token is
        // fed in any case: its row is what the prompt is for.
        let grain = info.chunk_tokens.max(1);
        let bytes_per_token = info.kv_bytes_per_token;
        let cut = |len: usize| len.min(slot.prompt.len() - 1) / grain * grain;
        if bytes_per_token == 0 || self.prefixes.budget == 0 || !PIECE.is_multiple_of(grain) {
            return Ok(true);
        }
        let known = &mut self.prefixes.sources[slot.source];
        let shared = known.recent.iter().map(|recent| cut(common(recent, &slot.prompt))).max().unwrap_or(0);
        if known.recent.len() == REMEMBERED {
            known.recent.pop_front();
        }
        known.recent.push_back(slot.prompt.clone());
        let best = known.kept.iter().enumerate().map(|(i, kept)| (cut(common(&kept.tokens, &slot.prompt)), i)).max();
        let (mut len, mut found) = best.map_or((0, None), |(len, i)| (len, Some(i)));
        if shared >= LEAST && shared > len && shared as u64 * bytes_per_token <= self.prefixes.budget {
            let parent = found.filter(|_| len >= LEAST).map(|i| known.kept[i].sequence);
            let from = if parent.is_some() { len } else { 0 };
            let opened = self.descend(slot.source, parent, from, shared)?;
            let fed = self.fill(&[(slot.source, opened, &slot.prompt[from..shared])], timings, proceed);
            if !matches!(fed, Ok(true)) {
                self.release(slot.source, opened);
                return fed;
            }
            let kept = &mut self.prefixes.sources[slot.source].kept;
            (len, found) = (shared, Some(kept.len()));
            kept.push(Kept { tokens: slot.prompt[..shared].to_vec(), sequence: opened, used: 0 });
        }
        let Some(found) = found.filter(|_| len >= LEAST) else { return Ok(true) };
        self.prefixes.clock += 1;
        let kept = &mut self.prefixes.sources[slot.source].kept[found];
        kept.used = self.prefixes.clock;
        let parent = kept.sequence;
        let fork = self.descend(slot.source, Some(parent), len, slot.prompt.len().saturating_add(reach))?;
        self.release(slot.source, slot.sequence);
        (slot.sequence, slot.held) = (fork, len);
        timings.reused_tokens[slot.source] += len;
        self.evict();
        Ok(true)
    }

    /// A sequence that holds the first `len` tokens of `parent` and has room for `reach`.
    fn descend(&self, source: usize, parent: Option<SequenceId>, len: usize, reach: usize) -> Result<SequenceId> {
        let limit = self.workers[source].info().context_length.unwrap_or(usize::MAX);
        self.workers[source].call(move |source| {
            let id = match parent {
                Some(parent) => source.fork(parent)?,
                None => source.open()?,
            };
            let ready = source.truncate(id, len).and_then(|()| source.reserve(id, reach.min(limit)));
            ready.inspect_err(|_| source.close(id)).map(|()| id)
        })?
    }

    pub(crate) fn release(&self, source: usize, sequence: SequenceId) {
        // A worker that is gone has nothing left to release.
        let _ = self.workers[source].call(move |source| source.close(sequence));
    }

    fn evict(&mut self) {
        loop {
            let held = self.prefixes.sources.iter().zip(&self.workers).map(|(known, worker)| {
                let tokens: usize = known.kept.iter().map(|kept| kept.tokens.len()).sum();
                tokens as u64 * worker.info().kv_bytes_per_token
            });
            if held.sum::<u64>() <= self.prefixes.budget {
                return;
            }
            let all = self.prefixes.sources.iter().enumerate();
            let all = all.flat_map(|(s, known)| known.kept.iter().enumerate().map(move |(i, kept)| (kept.used, s, i)));
            let Some((_, source, index)) = all.min() else { return };
            let kept = self.prefixes.sources[source].kept.swap_remove(index);
            self.release(source, kept.sequence);
        }
    }
}

fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
