//! The nucleus (top-p) of a distribution, found without sorting and without allocation.

use logitfuse_core::{RoleRow, numerics::softmax};

/// Entries whose probabilities are computed together, on the stack.
const BLOCK: usize = 1024;

/// The bits of a key that each pass determines, from the top: 11 + 11 + 10 are all 32.
const PASSES: [u32; 3] = [11, 11, 10];

/// Masks, in `out`, every id outside the nucleus of `base`: the smallest set of its most probable ids that holds at
/// least `top_p` of the mass. Ids with equal logits are in or out together, so the outcome does not depend on the order
/// of the ids, and the most probable id always stays.
pub(crate) fn mask_outside_nucleus(base: &RoleRow<'_>, top_p: f64, out: &mut [f32]) {
    if top_p >= 1.0 {
        return;
    }
    let least = least_logit(base, top_p);
    for (out, &logit) in out.iter_mut().zip(base.logits()) {
        *out = if logit < least { f32::NEG_INFINITY } else { *out };
    }
}

/// The smallest logit of the nucleus.
///
/// Logits are mapped to integers of the same order, and the integer sought is found digit by digit, as in a
/// radix sort: the mass above each of its possible leading bits first, then the next bits within those.
fn least_logit(base: &RoleRow<'_>, top_p: f64) -> f32 {
    let mut masses = [0_u64; 1 << PASSES[0]];
    let mut prefix = 0_u32;
    let mut undecided = u32::BITS;
    // What the nucleus still lacks; known once the first pass has seen all the mass.
    let mut lacking = None;
    for bits in PASSES {
        let shift = undecided - bits;
        masses.fill(0);
        add_masses(base, &mut masses, |key| {
            // A shift by all 32 bits is not defined; in the first pass every key is a candidate.
            let candidate = undecided == u32::BITS || (key >> undecided) == prefix;
            candidate.then(|| (key >> shift) as usize & ((1 << bits) - 1))
        });
        let mut rest = *lacking.get_or_insert_with(|| fraction_of(masses.iter().sum(), top_p));
        let mut digit = 0;
        for (candidate, &mass) in masses[..1 << bits].iter().enumerate().rev() {
            if mass > 0 {
                digit = candidate;
                if mass >= rest {
                    break;
                }
                rest -= mass;
            }
        }
        lacking = Some(rest);
        prefix = (prefix << bits) | u32::try_from(digit).unwrap_or(u32::MAX);
        undecided = shift;
    }
    logit_of(prefix)
}

/// Adds every id's mass to the slot that `slot` assigns to its key, if any.
fn add_masses(base: &RoleRow<'_>, masses: &mut [u64], slot: impl Fn(u32) -> Option<usize>) {
    let mut probabilities = [0.0; BLOCK];
    for logits in base.logits().chunks(BLOCK) {
        // After the first pass nearly every block is of no interest, and its exponentials are spared.
        if logits.iter().all(|&logit| slot(key(logit)).is_none()) {
            continue;
        }
        let probabilities = &mut probabilities[..logits.len()];
        softmax(logits, base.log_normaliser, probabilities);
        for (&logit, &probability) in logits.iter().zip(&*probabilities) {
            if let Some(slot) = slot(key(logit)) {
                masses[slot] += fixed_point(probability);
            }
        }
    }
}

/// A probability in units of 2^-48: integers add up to the same sum in every order.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "probabilities are between 0 and 1")]
fn fixed_point(probability: f32) -> u64 {
    (f64::from(probability) * (1_u64 << 48) as f64) as u64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a mass that fits")]
fn fraction_of(mass: u64, fraction: f64) -> u64 {
    ((mass as f64 * fraction).ceil() as u64).clamp(1, mass.max(1))
}

/// An integer for each logit such that larger logits have larger integers.
fn key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn logit_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

#[cfg(test)]
mod tests {
    use logitfuse_core::numerics::log_sum_exp;
    use proptest::prelude::*;

    use super::*;

    /// The ids of the nucleus, by sorting.
    fn by_sorting(row: &[f32], top_p: f64) -> Vec<bool> {
        let mut probabilities = vec![0.0; row.len()];
        softmax(row, log_sum_exp(row), &mut probabilities);
        let mut sorted: Vec<usize> = (0..row.len()).collect();
        sorted.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let masses = |ids: &[usize]| ids.iter().map(|&id| fixed_point(probabilities[id])).sum::<u64>();
        let wanted = fraction_of(masses(&sorted), top_p);
        let size = (1..=row.len()).find(|&n| masses(&sorted[..n]) >= wanted).expect("all ids hold all mass");
        row.iter().map(|&logit| logit >= row[sorted[size - 1]]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_what_sorting_finds(row in row(), top_p in 0.001..1.0) {
            let mut out = vec![7.0; row.len()];
            mask_outside_nucleus(&RoleRow::new(&row, log_sum_exp(&row), 0.0), top_p, &mut out);
            let kept: Vec<bool> = out.iter().map(|x| x.is_finite()).collect();
            prop_assert_eq!(kept, by_sorting(&row, top_p));
        }

        #[test]
        fn keys_keep_the_order(a in any::<f32>(), b in any::<f32>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert!(a >= b || key(a) < key(b));
            prop_assert_eq!(logit_of(key(a)).to_bits(), a.to_bits());
        }
    }

    /// Rows with ties, masks and lengths around a block's border.
    fn row() -> impl Strategy<Value = Vec<f32>> {
        let entry = prop_oneof![
            4 => -9.0_f32..9.0,
            2 => (-3_i8..3).prop_map(f32::from),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(-0.0_f32),
        ];
        let len = prop_oneof![1..40_usize, 1020..1030_usize];
        len.prop_flat_map(move |len| prop::collection::vec(entry.clone(), len)).prop_map(|mut row| {
            row[0] = 1.0;
            row
        })
    }

    #[test]
    fn all_mass_keeps_all() {
        let mut out = [1.0; 3];
        let row = [0.0, -90.0, 5.0];
        mask_outside_nucleus(&RoleRow::new(&row, log_sum_exp(&row), 0.0), 1.0, &mut out);
        assert!(out.iter().all(|x| x.is_finite()));
    }
}
