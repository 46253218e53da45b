//! What a [`LogitSource`] must obey.
//!
//! A row is a function of the tokens before it. Everything else that the trait offers, feeding in pieces, truncation,
//! forks, batches, must not show in it. Kernels of real models round differently by the shape of a batch, so rows are
//! compared with a tolerance on logits; 0 demands equal bits.
//!
//! The functions open sequences and close them again, so one source serves all of them in turn.
//!
//! ```
//! use logitfuse_conformance::source_laws;
//! use logitfuse_replay::SyntheticSource;
//!
//! let mut source = SyntheticSource::new("toy", 50, 1);
//! source_laws::all(&mut source, &[1, 2, 3, 4, 5, 6], &[7, 8, 9], 0.0)?;
//! # Ok::<(), logitfuse_conformance::Violation>(())
//! ```

use logitfuse_core::numerics::check_row;
use logitfuse_core::{LogitSource, Result as CoreResult, Rows, SequenceId, Step, TokenId};

use crate::Violation;

type Row = Vec<f32>;

/// Checks every law with two different texts of three tokens or more.
pub fn all(source: &mut dyn LogitSource, a: &[TokenId], b: &[TokenId], tolerance: f32) -> Result<(), Violation> {
    for cut in 1..a.len() {
        pieces_equal_the_whole(source, a, cut, tolerance)?;
        truncation_forgets(source, a, b, cut, tolerance)?;
        forks_are_copies(source, a, b, cut, tolerance)?;
    }
    batches_equal_singles(source, &[a, b], tolerance)?;
    sequences_are_counted(source, a)?;
    errors_change_nothing(source, a, tolerance)
}

/// Tokens fed in two pieces, or one by one, give the rows that they give at once, and asking for the last row only gives
/// that one.
pub fn pieces_equal_the_whole(
    source: &mut dyn LogitSource,
    tokens: &[TokenId],
    cut: usize,
    tolerance: f32,
) -> Result<(), Violation> {
    const LAW: &str = "pieces-equal-the-whole";
    let failed = Violation::because(LAW);
    let whole = alone(source, tokens).map_err(&failed)?;
    for row in &whole {
        check_row(row).map_err(&failed)?;
    }
    let (first, second) = tokens.split_at(cut);
    for pieces in [vec![first, second], tokens.chunks(1).collect()] {
        let sequence = source.open().map_err(&failed)?;
        let mut rows = Vec::new();
        for piece in pieces {
            rows.extend(forward(source, sequence, piece, piece.len()).map_err(&failed)?);
        }
        source.close(sequence);
        same(LAW, &whole, &rows, tolerance)?;
    }
    let sequence = source.open().map_err(&failed)?;
    forward(source, sequence, first, 0).map_err(&failed)?;
    let last = forward(source, sequence, second, 1).map_err(&failed)?;
    source.close(sequence);
    same(LAW, &whole[whole.len() - 1..], &last, tolerance)
}

/// After `truncate` a sequence continues as if what was cut had never been fed.
pub fn truncation_forgets(
    source: &mut dyn LogitSource,
    tokens: &[TokenId],
    detour: &[TokenId],
    cut: usize,
    tolerance: f32,
) -> Result<(), Violation> {
    const LAW: &str = "truncation-forgets";
    let failed = Violation::because(LAW);
    let whole = alone(source, tokens).map_err(&failed)?;
    let sequence = source.open().map_err(&failed)?;
    forward(source, sequence, &tokens[..cut], 0).map_err(&failed)?;
    // Once by a detour that is rejected whole, once by cutting into what was right.
    forward(source, sequence, detour, 1).map_err(&failed)?;
    source.truncate(sequence, cut).map_err(&failed)?;
    let rest = forward(source, sequence, &tokens[cut..], tokens.len() - cut).map_err(&failed)?;
    same(LAW, &whole[cut..], &rest, tolerance)?;
    source.truncate(sequence, cut - 1).map_err(&failed)?;
    let redone = forward(source, sequence, &tokens[cut - 1..], tokens.len() - cut + 1).map_err(&failed)?;
    source.truncate(sequence, 0).map_err(&failed)?;
    let afresh = forward(source, sequence, tokens, tokens.len()).map_err(&failed)?;
    source.close(sequence);
    same(LAW, &whole[cut - 1..], &redone, tolerance)?;
    same(LAW, &whole, &afresh, tolerance)
}

/// A fork continues like its original, and what happens to one does not show in the other.
pub fn forks_are_copies(
    source: &mut dyn LogitSource,
    tokens: &[TokenId],
    detour: &[TokenId],
    cut: usize,
    tolerance: f32,
) -> Result<(), Violation> {
    const LAW: &str = "forks-are-copies";
    let failed = Violation::because(LAW);
    let whole = alone(source, tokens).map_err(&failed)?;
    let original = source.open().map_err(&failed)?;
    forward(source, original, &tokens[..cut], 0).map_err(&failed)?;
    let fork = source.fork(original).map_err(&failed)?;
    let strayed = source.fork(original).map_err(&failed)?;
    forward(source, strayed, detour, 1).map_err(&failed)?;
    source.truncate(strayed, 0).map_err(&failed)?;
    let rest = tokens.len() - cut;
    let of_fork = forward(source, fork, &tokens[cut..], rest).map_err(&failed)?;
    source.close(fork);
    let of_original = forward(source, original, &tokens[cut..], rest).map_err(&failed)?;
    source.close(strayed);
    source.close(original);
    same(LAW, &whole[cut..], &of_fork, tolerance)?;
    same(LAW, &whole[cut..], &of_original, tolerance)
}

/// Sequences in one batch get the rows that they get alone, in the order of the steps, whatever their lengths; first
/// from nothing, then each continued from its own past.
pub fn batches_equal_singles(
    source: &mut dyn LogitSource,
    texts: &[&[TokenId]],
    tolerance: f32,
) -> Result<(), Violation> {
    const LAW: &str = "batches-equal-singles";
    let failed = Violation::because(LAW);
    let mut expected = [Vec::new(), Vec::new()];
    let mut sequences = Vec::new();
    for text in texts {
        let rows = alone(source, text).map_err(&failed)?;
        // All but the last token first, of which every row is wanted; then the last.
        let (last, before) = rows.split_last().ok_or_else(|| Violation::new(LAW, "a text is empty"))?;
        expected[0].extend_from_slice(before);
        expected[1].push(last.clone());
        sequences.push(source.open().map_err(&failed)?);
    }
    let split = |text: &'_ [TokenId]| text.len() - 1;
    let mut seen = Rows::new();
    for (round, expected) in expected.iter().enumerate() {
        let batch: Vec<Step<'_>> = texts
            .iter()
            .zip(&sequences)
            .map(|(text, &sequence)| {
                let tokens = if round == 0 { &text[..split(text)] } else { &text[split(text)..] };
                Step { sequence, tokens, rows: tokens.len() }
            })
            .collect();
        source.forward(&batch, &mut seen).map_err(&failed)?;
        same(LAW, expected, &copied(&seen), tolerance)?;
    }
    for sequence in sequences {
        source.close(sequence);
    }
    Ok(())
}

/// `len` tells what a sequence holds, `close` forgets it, and closing twice does nothing.
pub fn sequences_are_counted(source: &mut dyn LogitSource, tokens: &[TokenId]) -> Result<(), Violation> {
    const LAW: &str = "sequences-are-counted";
    let failed = Violation::because(LAW);
    let sequence = source.open().map_err(&failed)?;
    let mut lengths = vec![source.len(sequence)];
    forward(source, sequence, tokens, 0).map_err(&failed)?;
    let fork = source.fork(sequence).map_err(&failed)?;
    source.truncate(sequence, 1).map_err(&failed)?;
    lengths.extend([source.len(sequence), source.len(fork)]);
    source.close(fork);
    source.close(fork);
    lengths.extend([source.len(fork), source.len(sequence)]);
    source.close(sequence);
    lengths.push(source.len(sequence));
    let expected = [Some(0), Some(1), Some(tokens.len()), None, Some(1), None];
    if lengths == expected { Ok(()) } else { Err(Violation::new(LAW, format!("{lengths:?}, not {expected:?}"))) }
}

/// What makes no sense is refused, and every sequence is as it was.
pub fn errors_change_nothing(
    source: &mut dyn LogitSource,
    tokens: &[TokenId],
    tolerance: f32,
) -> Result<(), Violation> {
    const LAW: &str = "errors-change-nothing";
    let failed = Violation::because(LAW);
    let whole = alone(source, tokens).map_err(&failed)?;
    let (held, rest) = tokens.split_at(tokens.len() - 1);
    let closed = source.open().map_err(&failed)?;
    source.close(closed);
    let sequence = source.open().map_err(&failed)?;
    forward(source, sequence, held, 0).map_err(&failed)?;

    let step = |sequence, tokens, rows| Step { sequence, tokens, rows };
    let mut out = Rows::new();
    let refused = [
        ("a sequence that was closed", source.forward(&[step(sequence, rest, 1), step(closed, rest, 1)], &mut out)),
        ("one sequence twice", source.forward(&[step(sequence, rest, 1), step(sequence, rest, 1)], &mut out)),
        ("more rows than tokens", source.forward(&[step(sequence, rest, rest.len() + 1)], &mut out)),
        ("no tokens", source.forward(&[step(sequence, &[], 0)], &mut out)),
        ("a cut beyond the end", source.truncate(sequence, tokens.len() + 1)),
        ("a cut of what was closed", source.truncate(closed, 0)),
        ("a fork of what was closed", source.fork(closed).map(drop)),
    ];
    if let Some((what, _)) = refused.iter().find(|(_, result)| result.is_ok()) {
        return Err(Violation::new(LAW, format!("{what}: was not refused")));
    }
    if source.len(sequence) != Some(held.len()) {
        return Err(Violation::new(LAW, format!("{:?} tokens are held, not {}", source.len(sequence), held.len())));
    }
    let last = forward(source, sequence, rest, rest.len()).map_err(&failed)?;
    source.close(sequence);
    same(LAW, &whole[held.len()..], &last, tolerance)
}

/// Every row of a text fed at once to a sequence of its own.
fn alone(source: &mut dyn LogitSource, tokens: &[TokenId]) -> CoreResult<Vec<Row>> {
    let sequence = source.open()?;
    let rows = forward(source, sequence, tokens, tokens.len());
    source.close(sequence);
    rows
}

fn forward(
    source: &mut dyn LogitSource,
    sequence: SequenceId,
    tokens: &[TokenId],
    rows: usize,
) -> CoreResult<Vec<Row>> {
    let mut out = Rows::new();
    source.forward(&[Step { sequence, tokens, rows }], &mut out)?;
    Ok(copied(&out))
}

fn copied(rows: &Rows) -> Vec<Row> {
    (0..rows.len()).map(|index| rows.row(index).to_vec()).collect()
}

fn same(law: &'static str, expected: &[Row], seen: &[Row], tolerance: f32) -> Result<(), Violation> {
    if expected.len() != seen.len() {
        return Err(Violation::new(law, format!("{} rows, not {}", seen.len(), expected.len())));
    }
    for (index, (expected, seen)) in expected.iter().zip(seen).enumerate() {
        if expected.len() != seen.len() {
            return Err(Violation::new(law, format!("row {index} has {} entries, not {}", seen.len(), expected.len())));
        }
        // Equal bits first: that covers masked ids, whose difference is NaN.
        let close = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a - b).abs() <= tolerance;
        if let Some(id) = expected.iter().zip(seen).position(|(&a, &b)| !close(a, b)) {
            let detail = format!("row {index}: id {id} is {}, not {}, tolerance {tolerance}", seen[id], expected[id]);
            return Err(Violation::new(law, detail));
        }
    }
    Ok(())
}
