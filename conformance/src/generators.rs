//! Generators of rows and cases: ordinary ones, and those on which fusion tends to break.

use half::f16;
use logitfuse_core::TokenId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::Case;

/// The kind of a generated row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Nothing: a Zipfian background, noise, a contested head.
    Ordinary,
    /// Two to four ids share the first place within half a nat, all others far behind.
    Contested,
    /// One id has nearly all the probability.
    Certain,
    /// Some ids masked, in each row other ones.
    Masked,
    /// The last third masked, as in a logit matrix that is padded beyond the tokenizer.
    Padded,
    /// One id possible, everything else masked.
    OneHot,
    /// Few distinct values, so that many ids tie, for the first place too.
    Ties,
    /// Values as an f16 graph gives them: 11 significant bits.
    Half,
    /// A certain model: logits of size 1e4.
    Sharp,
    /// Logits of size 1e30, which no model gives and a broken one might.
    Huge,
    /// All logits equal.
    Flat,
}

/// Kinds of rows, ordinary ones being the most frequent.
pub fn row_kind() -> impl Strategy<Value = RowKind> {
    prop_oneof![
        5 => Just(RowKind::Ordinary),
        2 => Just(RowKind::Contested),
        1 => Just(RowKind::Certain),
        3 => Just(RowKind::Masked),
        1 => Just(RowKind::Padded),
        1 => Just(RowKind::OneHot),
        2 => Just(RowKind::Ties),
        2 => Just(RowKind::Half),
        1 => Just(RowKind::Sharp),
        1 => Just(RowKind::Huge),
        1 => Just(RowKind::Flat),
    ]
}

/// A row of `width` entries of any kind. The entry of `anchor` is never masked.
pub fn row(width: usize, anchor: TokenId) -> impl Strategy<Value = Vec<f32>> {
    row_kind().prop_flat_map(move |kind| row_of(kind, width, anchor))
}

/// A row of `width` entries of this kind. The entry of `anchor` is never masked.
///
/// ```
/// use logitfuse_core::numerics::{check_row, top_k};
/// use logitfuse_conformance::generators::{RowKind, row_of};
/// use proptest::prelude::*;
///
/// proptest!(|(row in row_of(RowKind::OneHot, 50, 7))| {
///     prop_assert!(check_row(&row).is_ok());
///     prop_assert_eq!(top_k(&row, 50).len(), 1);
/// });
/// ```
pub fn row_of(kind: RowKind, width: usize, anchor: TokenId) -> impl Strategy<Value = Vec<f32>> {
    let noise = vec(-3.0_f32..3.0, width);
    let head = vec((any::<Index>(), 4.0_f32..14.0), 2..8);
    let mask = vec(proptest::bool::weighted(0.2), width);
    (noise, head, mask).prop_map(move |(noise, head, mask)| {
        let mut row = noise;
        for (rank, x) in (1_u16..).zip(&mut row) {
            *x -= f32::from(rank).ln();
        }
        for (place, boost) in &head {
            row[place.index(width)] += boost;
        }
        let best = row.iter().copied().fold(f32::MIN, f32::max);
        match kind {
            RowKind::Contested => {
                for (place, boost) in head.iter().take(4) {
                    row[place.index(width)] = best + 3.0 + boost / 20.0;
                }
            }
            RowKind::Certain => row[head[0].0.index(width)] = best + 8.0,
            _ => {}
        }
        let anchor = anchor as usize;
        let masked = |id: usize| match kind {
            RowKind::Masked => mask[id],
            RowKind::Padded => id >= width - width / 3,
            RowKind::OneHot => true,
            _ => false,
        };
        for (id, x) in row.iter_mut().enumerate() {
            *x = if masked(id) && id != anchor { f32::NEG_INFINITY } else { shaped(kind, *x) };
        }
        row
    })
}

fn shaped(kind: RowKind, x: f32) -> f32 {
    match kind {
        RowKind::Ties => (x / 4.0).round() * 4.0,
        RowKind::Half => f16::from_f32(x).to_f32(),
        RowKind::Sharp => x * 1e3,
        RowKind::Huge => x * 1e29,
        RowKind::Flat => 1.5,
        _ => x,
    }
}

/// `count` rows that resemble one another as models of one family do: one background at several sharpnesses (logits up
/// to about 20 nats apart), a little noise, and up to six ids that each row moves by up to 12 nats. Where a confident row
/// meets jumps that contradict it, the objective of dynamic fusion has several minima.
///
/// ```
/// use logitfuse_conformance::generators::related_rows;
/// use proptest::prelude::*;
///
/// proptest!(|(rows in related_rows(3, 40, 7))| prop_assert!(rows.len() == 3 && rows.iter().all(|row| row[7].is_finite())));
/// ```
pub fn related_rows(count: usize, width: usize, anchor: TokenId) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let kind = prop_oneof![
        3 => Just(RowKind::Ordinary),
        3 => Just(RowKind::Contested),
        2 => Just(RowKind::Certain),
        1 => Just(RowKind::Masked),
        1 => Just(RowKind::Padded),
        1 => Just(RowKind::Ties),
    ];
    let parent = kind.prop_flat_map(move |kind| row_of(kind, width, anchor));
    let noise = vec(-0.5_f32..0.5, width);
    let jumps = vec((any::<Index>(), -12.0_f32..12.0), 0..6);
    let child = (0.3_f32..2.0, noise, jumps);
    (parent, vec(child, count)).prop_map(move |(parent, children)| {
        let relate = |(sharpness, noise, jumps): (f32, Vec<f32>, Vec<(Index, f32)>)| {
            let mut row: Vec<f32> = parent.iter().zip(noise).map(|(x, noise)| sharpness * x + noise).collect();
            for (place, jump) in jumps {
                row[place.index(width)] += jump;
            }
            row
        };
        children.into_iter().map(relate).collect()
    })
}

/// A case of one to four positions with this many rows of every role, in the order of the strategy's roles.
///
/// Widths include 1, 2 and those around the lanes and blocks of vectorised code. At most positions each row has a
/// kind of its own; at the others the rows are related, as those of real models are. One id is possible under all.
pub fn case(roles: &[(&str, usize)]) -> impl Strategy<Value = Case> + use<> {
    cases(
        roles,
        |width, anchor, count| prop_oneof![3 => vec(row(width, anchor), count), 2 => related_rows(count, width, anchor)],
    )
}

/// A case whose rows are [`related_rows`] at every position: as real models would yield them.
pub fn related_case(roles: &[(&str, usize)]) -> impl Strategy<Value = Case> + use<> {
    cases(roles, |width, anchor, count| related_rows(count, width, anchor))
}

fn cases<F, R>(roles: &[(&str, usize)], rows: F) -> impl Strategy<Value = Case> + use<F, R>
where
    F: Fn(usize, TokenId, usize) -> R + Clone + 'static,
    R: Strategy<Value = Vec<Vec<f32>>> + 'static,
{
    let roles: Vec<(String, usize)> = roles.iter().map(|&(role, count)| (role.to_owned(), count)).collect();
    let width = prop_oneof![2 => 1..4_usize, 4 => 4..70_usize, 1 => 505..520_usize];
    (width, 1..5_usize).prop_flat_map(move |(width, positions)| {
        let count = roles.iter().map(|(_, count)| count).sum::<usize>();
        let roles: Vec<(&str, usize)> = roles.iter().map(|(role, count)| (role.as_str(), *count)).collect();
        let session = Case::session(&roles, width);
        let rows = rows.clone();
        let position = any::<Index>().prop_flat_map(move |anchor| {
            let anchor = TokenId::try_from(anchor.index(width)).unwrap_or(0);
            (rows(width, anchor, count), Just(anchor))
        });
        vec(position, positions).prop_map(move |positions| {
            let (steps, tokens) = positions.into_iter().unzip();
            Case { session: session.clone(), steps, tokens }
        })
    })
}
