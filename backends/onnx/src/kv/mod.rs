//! Key/value caches of sequences between calls. Three policies behind one trait; which one a model gets is decided once,
//! from its graph.

mod buffer;
mod in_place;
mod pass_through;
mod recompute;

use std::ops::Range;

use logitfuse_core::{Result, Rows, SequenceId, TokenId};
use smallvec::SmallVec;

pub(crate) use self::{in_place::InPlace, pass_through::PassThrough, recompute::Recompute};
use crate::{decoder::Decoder, signature::LogitRows};

/// A [`Step`](logitfuse_core::Step) of a `forward` call, and the place of its rows in the output.
#[derive(Clone, Copy)]
pub(crate) struct SequenceStep<'a> {
    pub(crate) sequence: SequenceId,
    pub(crate) tokens: &'a [TokenId],
    pub(crate) rows: usize,
    pub(crate) first_row: usize,
}

/// The caches of all open sequences. Callers check that sequences exist and tokens fit; an error leaves lengths as they
/// were.
pub(crate) trait Cache: Send {
    fn open(&mut self, sequence: SequenceId);
    fn fork(&mut self, decoder: &Decoder, of: SequenceId, sequence: SequenceId) -> Result<()>;
    fn truncate(&mut self, sequence: SequenceId, len: usize);
    fn close(&mut self, sequence: SequenceId);
    fn len(&self, sequence: SequenceId) -> Option<usize>;
    fn reserve(&mut self, _sequence: SequenceId, _tokens: usize) {}
    fn forward(&mut self, decoder: &mut Decoder, steps: &[SequenceStep<'_>], out: &mut Rows) -> Result<()>;
}

/// Consecutive tokens of a step that go through the graph at once, and how many rows of their end are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) tokens: Range<usize>,
    pub(crate) rows: usize,
}

/// Cuts `tokens` tokens, of whose end `rows` rows are wanted, into chunks of at most `chunk` tokens.
pub(crate) fn chunks(tokens: usize, rows: usize, chunk: usize, out: LogitRows) -> SmallVec<[Chunk; 4]> {
    let first_wanted = tokens - rows;
    // A graph that returns its last row only gives several rows one by one.
    let together = match out {
        LogitRows::Last if rows > 0 => first_wanted + 1,
        _ => tokens,
    };
    let ends = (0..together).step_by(chunk.max(1)).map(|start| start..together.min(start + chunk.max(1)));
    let singles = (together..tokens).map(|start| start..start + 1);
    ends.chain(singles)
        .map(|tokens| Chunk { rows: tokens.end.saturating_sub(tokens.start.max(first_wanted)), tokens })
        .collect()
}

/// Copies the rows of a chunk to their place in the output. `sequence` is its place in the call.
pub(crate) fn copy_rows(decoder: &Decoder, sequence: usize, step: &SequenceStep<'_>, chunk: &Chunk, out: &mut Rows) {
    let first_wanted = step.tokens.len() - step.rows;
    for from_end in (0..chunk.rows).rev() {
        let row = step.first_row + chunk.tokens.end - 1 - from_end - first_wanted;
        decoder.copy_logits(sequence, from_end, out.row_mut(row));
    }
}

#[cfg(test)]
mod tests {
    use super::{LogitRows, chunks};

    fn cut(tokens: usize, rows: usize, chunk: usize, out: LogitRows) -> Vec<(usize, usize, usize)> {
        chunks(tokens, rows, chunk, out).into_iter().map(|p| (p.tokens.start, p.tokens.end, p.rows)).collect()
    }

    #[test]
    fn every_token_is_run_once_and_every_wanted_row_comes_out_once() {
        assert_eq!(cut(10, 1, 4, LogitRows::All), [(0, 4, 0), (4, 8, 0), (8, 10, 1)]);
        assert_eq!(cut(10, 4, 4, LogitRows::All), [(0, 4, 0), (4, 8, 2), (8, 10, 2)]);
        assert_eq!(cut(5, 0, 4, LogitRows::Last), [(0, 4, 0), (4, 5, 0)]);
        assert_eq!(cut(5, 1, 4, LogitRows::Last), [(0, 4, 0), (4, 5, 1)]);
        assert_eq!(cut(5, 3, 4, LogitRows::Last), [(0, 3, 1), (3, 4, 1), (4, 5, 1)]);
        assert_eq!(cut(1, 1, 16, LogitRows::Chosen), [(0, 1, 1)]);
    }
}
