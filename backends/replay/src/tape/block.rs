//! Some positions of one text: the rows of every source, as far as the tape keeps them.

use half::{f16, slice::HalfFloatSliceExt};
use logitfuse_core::{Error, ErrorKind, PromptScore, Result, RoleRow, SharedVocabulary, TokenId, numerics};
use serde::{Deserialize, Serialize};

use super::{
    RowKind, TextInfo,
    columns::{Column, Number, Packer, Unpacker},
};

/// Bytes of rows that one block holds: what a reader needs of memory.
const BLOCK_BYTES: usize = 32 << 20;

/// How a row of a top-k tape is completed for the ids that were not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// Each has an equal share of their mass: rows stay distributions, with the largest entropy that fits what is stored.
    #[default]
    Spread,
    /// They are impossible, as if the vocabulary were the stored ids.
    Masked,
}

/// Some positions of one text, in their order.
#[derive(Clone, Debug)]
pub struct Block {
    /// The text.
    pub text: TextInfo,
    /// The place of the first of these positions in the text.
    pub first: usize,
    tokens: Vec<TokenId>,
    prompts: Option<Vec<PromptScore>>,
    /// `[source, position]`: of the rows as they came.
    log_normalisers: Vec<f64>,
    rows: RowData,
}

/// The rows as they are stored, `[source, position, …]`.
#[derive(Clone, Debug)]
enum RowData {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// The ids of position `p` are `ids[offsets[p]..offsets[p + 1]]`, ascending; all sources keep the same.
    TopK {
        offsets: Vec<u32>,
        ids: Vec<TokenId>,
        log_probs: Vec<f32>,
        log_rests: Vec<f64>,
    },
}

/// The JSON before a block's columns.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) text: TextInfo,
    pub(super) first: usize,
    pub(super) columns: Vec<Column>,
}

/// What all blocks of a tape share.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) kind: RowKind,
    pub(super) sources: usize,
    pub(super) vocabulary: SharedVocabulary,
}

impl Shape {
    /// How many positions a block takes.
    pub(super) fn positions(&self) -> usize {
        let width = self.vocabulary.width();
        let bytes = match self.kind {
            RowKind::F32 => 4 * self.sources * width,
            RowKind::F16 => 2 * self.sources * width,
            RowKind::TopK(k) => 4 * (self.sources + 1) * width.min(self.sources * k as usize + 1),
        };
        (BLOCK_BYTES / bytes.max(1)).clamp(1, 1024)
    }

    /// The columns of a block of so many positions, which keeps `kept` ids in all if it keeps the best.
    fn columns(&self, positions: usize, kept: usize) -> Vec<Column> {
        let (sources, width) = (self.sources, self.vocabulary.width());
        let mut columns = vec![
            Column::new::<u32>("tokens", &[positions]),
            Column::new::<f64>("prompt_log_probs", &[sources]),
            Column::new::<u32>("prompt_tokens", &[sources]),
            Column::new::<f64>("log_normalisers", &[sources, positions]),
        ];
        columns.extend(match self.kind {
            RowKind::F32 => vec![Column::new::<f32>("logits", &[sources, positions, width])],
            RowKind::F16 => vec![Column::new::<f16>("log_probs", &[sources, positions, width])],
            RowKind::TopK(_) => vec![
                Column::new::<u32>("offsets", &[positions + 1]),
                Column::new::<u32>("ids", &[kept]),
                Column::new::<f32>("log_probs", &[sources, kept]),
                Column::new::<f64>("log_rests", &[sources, positions]),
            ],
        });
        columns
    }
}

/// Collects the rows of consecutive positions.
pub(super) struct BlockBuilder {
    tokens: Vec<TokenId>,
    offsets: Vec<u32>,
    ids: Vec<TokenId>,
    of_source: Vec<SourceColumns>,
    scratch: Vec<f32>,
    /// One per source; empty if the prompts were not scored.
    pub(super) prompts: Vec<PromptScore>,
}

/// The columns of one source.
#[derive(Clone, Default)]
struct SourceColumns {
    log_normalisers: Vec<f64>,
    log_rests: Vec<f64>,
    wide: Vec<f32>,
    half: Vec<f16>,
}

impl BlockBuilder {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            tokens: Vec::new(),
            offsets: vec![0],
            ids: Vec::new(),
            of_source: vec![SourceColumns::default(); shape.sources],
            scratch: vec![0.0; shape.vocabulary.width()],
            prompts: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Adds the rows of a position, one per source, masked to the vocabulary, and the token that the text has there.
    pub(super) fn push(&mut self, shape: &Shape, token: TokenId, rows: &[RoleRow<'_>]) -> Result<()> {
        let width = shape.vocabulary.width();
        if rows.len() != shape.sources || rows.iter().any(|row| row.logits().len() != width) {
            return Err(Error::new(ErrorKind::Internal, "rows of another number or width than the tape's"));
        }
        if !shape.vocabulary.contains(token) {
            return Err(Error::new(ErrorKind::InvalidData, format!("token {token} is not in the vocabulary")));
        }
        for (source, row) in rows.iter().enumerate() {
            numerics::check_row(row.logits()).map_err(|e| e.context(format_args!("source {source}")))?;
        }
        self.tokens.push(token);
        let from = self.ids.len();
        if let RowKind::TopK(k) = shape.kind {
            let best = rows.iter().flat_map(|row| numerics::top_k(row.logits(), k as usize));
            let mut ids: Vec<TokenId> = best.map(|(id, _)| id).chain([token]).collect();
            ids.sort_unstable();
            ids.dedup();
            self.ids.append(&mut ids);
            self.offsets.push(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
        }
        let ids = &self.ids[from..];
        for (column, row) in self.of_source.iter_mut().zip(rows) {
            column.log_normalisers.push(row.log_normaliser);
            match shape.kind {
                RowKind::F32 => column.wide.extend(row.logits()),
                RowKind::F16 => {
                    numerics::log_softmax(row.logits(), row.log_normaliser, &mut self.scratch);
                    column.half.extend(self.scratch.iter().map(|&x| nearest_half(x)));
                }
                RowKind::TopK(_) => {
                    numerics::log_softmax(row.logits(), row.log_normaliser, &mut self.scratch);
                    for &id in ids {
                        // What is taken out of the row is the row's no longer: the rest is summed without cancellation.
                        let log_prob = std::mem::replace(&mut self.scratch[id as usize], f32::NEG_INFINITY);
                        column.wide.push(log_prob);
                    }
                    column.log_rests.push(numerics::log_sum_exp(&self.scratch));
                }
            }
        }
        Ok(())
    }

    /// Description and payload of what was collected, and an empty builder.
    pub(super) fn finish(&mut self, shape: &Shape, text: &TextInfo, first: usize) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut full = std::mem::replace(self, Self::new(shape));
        // Every block repeats them, so that each can be read by itself.
        self.prompts.clone_from(&full.prompts);
        let (sources, positions, kept) = (shape.sources, full.tokens.len(), full.ids.len());
        let width = shape.vocabulary.width();
        let gather =
            |part: fn(&SourceColumns) -> &Vec<f64>| full.of_source.iter().flat_map(part).copied().collect::<Vec<_>>();
        let wide: Vec<f32> = full.of_source.iter().flat_map(|column| &column.wide).copied().collect();
        let mut packer = Packer::default();
        packer.push("tokens", &[positions], &full.tokens);
        full.prompts.resize(sources, PromptScore { log_prob: f64::NAN, tokens: 0 });
        let log_probs: Vec<f64> = full.prompts.iter().map(|prompt| prompt.log_prob).collect();
        let tokens: Vec<u32> =
            full.prompts.iter().map(|prompt| u32::try_from(prompt.tokens).unwrap_or(u32::MAX)).collect();
        packer.push("prompt_log_probs", &[sources], &log_probs);
        packer.push("prompt_tokens", &[sources], &tokens);
        packer.push("log_normalisers", &[sources, positions], &gather(|column| &column.log_normalisers));
        match shape.kind {
            RowKind::F32 => packer.push("logits", &[sources, positions, width], &wide),
            RowKind::F16 => {
                let half: Vec<f16> = full.of_source.iter().flat_map(|column| &column.half).copied().collect();
                packer.push("log_probs", &[sources, positions, width], &half);
            }
            RowKind::TopK(_) => {
                packer.push("offsets", &[positions + 1], &full.offsets);
                packer.push("ids", &[kept], &full.ids);
                packer.push("log_probs", &[sources, kept], &wide);
                packer.push("log_rests", &[sources, positions], &gather(|column| &column.log_rests));
            }
        }
        let (columns, payload) = packer.finish()?;
        let description = Description { text: text.clone(), first, columns };
        let description = serde_json::to_vec(&description)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("tape: a block cannot be described: {e}")))?;
        Ok((description, payload))
    }
}

/// The nearest half-precision number; what is finite stays finite.
fn nearest_half(x: f32) -> f16 {
    let half = f16::from_f32(x);
    if half.is_infinite() && x.is_finite() { f16::MIN } else { half }
}

impl Block {
    /// Unpacks a block. An error says what is wrong with it; the reader adds where it lies.
    pub(super) fn unpack(shape: &Shape, description: Description, payload: &[u8]) -> Result<Self, String> {
        let Description { text, first, columns } = description;
        let length = |name: &str| {
            let column = columns.iter().find(|column| column.name == name);
            column.and_then(|column| column.shape.last().copied()).unwrap_or(0)
        };
        let (positions, kept) = (length("tokens"), length("ids"));
        if positions == 0 || first.checked_add(positions).is_none_or(|end| end > text.tokens) {
            return Err(format!("it holds positions {first} and {positions} on of a text of {} tokens", text.tokens));
        }
        // Products of these stay far from overflowing: the width is bounded by the header, the sources are too.
        if positions > 1 << 24 || kept > 1 << 40 || columns != shape.columns(positions, kept) {
            return Err("its columns are not those of this tape".to_owned());
        }
        let expected = columns.iter().map(bytes).sum();
        let mut columns = Unpacker::new(payload, expected)?;
        Self::take(shape, text, first, positions, kept, &mut columns).map_err(|e| e.to_string())
    }

    fn take(
        shape: &Shape,
        text: TextInfo,
        first: usize,
        positions: usize,
        kept: usize,
        columns: &mut Unpacker,
    ) -> Result<Self> {
        let wrong = |what: &str| Err(Error::new(ErrorKind::InvalidData, what));
        let (cells, width) = (shape.sources * positions, shape.vocabulary.width());
        let tokens: Vec<TokenId> = columns.take(positions)?;
        let prompt_log_probs: Vec<f64> = columns.take(shape.sources)?;
        let prompt_tokens: Vec<u32> = columns.take(shape.sources)?;
        let score = |(&log_prob, &tokens): (&f64, &u32)| PromptScore { log_prob, tokens: tokens as usize };
        let prompts: Vec<_> = prompt_log_probs.iter().zip(&prompt_tokens).map(score).collect();
        let prompts = prompts.iter().all(|prompt| prompt.log_prob.is_finite()).then_some(prompts);
        let log_normalisers: Vec<f64> = columns.take(cells)?;
        if !tokens.iter().all(|&token| shape.vocabulary.contains(token)) {
            return wrong("it holds a token that is not in the vocabulary");
        }
        if !log_normalisers.iter().all(|z| z.is_finite()) {
            return wrong("it holds a normaliser that is not finite");
        }
        let rows = match shape.kind {
            RowKind::F32 => RowData::F32(columns.take(cells * width)?),
            RowKind::F16 => RowData::F16(columns.take(cells * width)?),
            RowKind::TopK(_) => {
                let offsets: Vec<u32> = columns.take(positions + 1)?;
                let ids: Vec<TokenId> = columns.take(kept)?;
                let ascending = offsets.is_sorted() && offsets.first() == Some(&0);
                if !ascending || offsets.last().is_none_or(|&last| last as usize != kept) {
                    return wrong("its offsets do not partition its ids");
                }
                for (pair, token) in offsets.windows(2).zip(&tokens) {
                    let ids = &ids[pair[0] as usize..pair[1] as usize];
                    if !ids.is_sorted_by(|a, b| a < b) || !ids.iter().all(|&id| shape.vocabulary.contains(id)) {
                        return wrong("its ids are not ascending ids of the vocabulary");
                    }
                    if ids.binary_search(token).is_err() {
                        return wrong("a text's own token is not among the ids of its position");
                    }
                }
                let (log_probs, log_rests) = (columns.take(shape.sources * kept)?, columns.take(cells)?);
                RowData::TopK { offsets, ids, log_probs, log_rests }
            }
        };
        Ok(Self { text, first, tokens, prompts, log_normalisers, rows })
    }

    /// The tokens that the text has at these positions.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// How probable the prompts were, one entry per source, if they were scored.
    pub fn prompts(&self) -> Option<&[PromptScore]> {
        self.prompts.as_deref()
    }

    /// Whether the text ends with these positions.
    pub fn is_last(&self) -> bool {
        self.first + self.tokens.len() == self.text.tokens
    }

    /// The ids whose log-probabilities are known at a position of this block, ascending; `None` where all are.
    pub fn known(&self, position: usize) -> Option<&[TokenId]> {
        match &self.rows {
            RowData::TopK { offsets, ids, .. } => {
                Some(&ids[offsets[position] as usize..offsets[position + 1] as usize])
            }
            _ => None,
        }
    }

    /// The log-normaliser of a source's row as it came from the model, in nats.
    pub fn log_normaliser(&self, source: usize, position: usize) -> f64 {
        self.log_normalisers[source * self.tokens.len() + position]
    }

    /// Writes a source's row at a position of this block: the logits as they came (`f32`), or log-probabilities. Returns
    /// its log-normaliser.
    ///
    /// # Panics
    /// If there is no such source or position, or `out` is not as wide as the vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if the row is no distribution.
    pub(super) fn row(
        &self,
        shape: &Shape,
        source: usize,
        position: usize,
        rest: Rest,
        out: &mut [f32],
    ) -> Result<f64> {
        let (positions, width) = (self.tokens.len(), shape.vocabulary.width());
        assert!(source < shape.sources && position < positions, "row {position} of source {source}");
        let cell = source * positions + position;
        match &self.rows {
            RowData::F32(logits) => {
                out.copy_from_slice(&logits[cell * width..(cell + 1) * width]);
                numerics::check_row(out)?;
                // Not computed anew: the very bits that a strategy saw are part of what is promised.
                return Ok(self.log_normalisers[cell]);
            }
            RowData::F16(log_probs) => log_probs[cell * width..(cell + 1) * width].convert_to_f32_slice(out),
            RowData::TopK { offsets, ids, log_probs, log_rests } => {
                let (from, to) = (offsets[position] as usize, offsets[position + 1] as usize);
                let unknown = shape.vocabulary.count() - (to - from);
                let each = match rest {
                    Rest::Spread if unknown > 0 => log_rests[cell] - (unknown as f64).ln(),
                    _ => f64::NEG_INFINITY,
                };
                #[expect(clippy::cast_possible_truncation, reason = "rows are f32")]
                out.fill(each as f32);
                shape.vocabulary.mask(out);
                let known = &log_probs[source * ids.len()..][from..to];
                for (&id, &log_prob) in ids[from..to].iter().zip(known) {
                    out[id as usize] = log_prob;
                }
            }
        }
        let log_normaliser = numerics::log_sum_exp(out);
        if log_normaliser.is_finite() {
            return Ok(log_normaliser);
        }
        numerics::check_row(out)?;
        Err(Error::new(ErrorKind::InvalidData, "its log-probabilities overflow"))
    }
}

fn bytes(column: &Column) -> usize {
    let size = match column.dtype.as_str() {
        "<f2" => f16::SIZE,
        "<f8" => f64::SIZE,
        _ => u32::SIZE,
    };
    column.shape.iter().product::<usize>() * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_holds_no_number_somewhere_is_refused() {
        const WIDTH: usize = 37;
        let shape = |kind| Shape { kind, sources: 1, vocabulary: SharedVocabulary::new(WIDTH, []) };
        let text = TextInfo {
            id: "a".to_owned(),
            choice: None,
            gold: false,
            bytes: 1,
            characters: 1,
            tokens: 1,
            sha256: String::new(),
        };
        let block = |rows| Block {
            text: text.clone(),
            first: 0,
            tokens: vec![0],
            prompts: None,
            log_normalisers: vec![0.0],
            rows,
        };
        let top_k = |log_probs: Vec<f32>, log_rest: f64| RowData::TopK {
            offsets: vec![0, 2],
            ids: vec![0, 5],
            log_probs,
            log_rests: vec![log_rest],
        };
        let read = |kind, kept| block(kept).row(&shape(kind), 0, 0, Rest::Spread, &mut [0.0; WIDTH]);
        for id in 0..WIDTH {
            for wrong in [f32::NAN, f32::INFINITY] {
                let mut row = vec![-1.0; WIDTH];
                row[id] = wrong;
                let half = row.iter().map(|&x| f16::from_f32(x)).collect();
                assert!(read(RowKind::F16, RowData::F16(half)).is_err(), "{wrong} at {id}");
                assert!(read(RowKind::F32, RowData::F32(row)).is_err(), "{wrong} at {id}");
            }
        }
        assert!(read(RowKind::TopK(1), top_k(vec![-1.0, -2.0], -1.0)).is_ok());
        assert!(read(RowKind::TopK(1), top_k(vec![-1.0, f32::NAN], -1.0)).is_err());
        assert!(read(RowKind::TopK(1), top_k(vec![-1.0, -2.0], f64::NAN)).is_err());
    }
}
