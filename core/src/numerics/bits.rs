//! The promise that a kernel gives the same bits on every instruction set, tested on those that this machine has.

use std::cell::Cell;

use proptest::prelude::*;
use pulp::NullaryFnOnce;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    /// What users get.
    Dispatched,
    /// What a machine without AVX-512 gets, where this machine can play it.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same source compiled without dispatch: SSE2 on x86-64, NEON on ARM.
    Baseline,
}

thread_local! {
    static LEVEL: Cell<Level> = const { Cell::new(Level::Dispatched) };
}

/// Runs the kernel at the level under test, or gives it back.
pub(super) fn forced<K: NullaryFnOnce>(kernel: K) -> Result<K::Output, K> {
    match LEVEL.get() {
        Level::Dispatched => Err(kernel),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => match pulp::x86::V3::try_new() {
            Some(v3) => Ok(pulp::Simd::vectorize(v3, kernel)),
            None => Ok(kernel.call()),
        },
        Level::Baseline => Ok(kernel.call()),
    }
}

fn at<T>(level: Level, f: impl FnOnce() -> T) -> T {
    LEVEL.set(level);
    let result = f();
    LEVEL.set(Level::Dispatched);
    result
}

/// Every number that the kernels compute from three rows, as bits.
fn everything(rows: [&[f32]; 3], alpha: f64) -> Vec<u64> {
    let [base, expert, anti] = rows;
    let [zb, ze, za] = rows.map(log_sum_exp);
    let contrasts = [Contrast { weight: alpha, towards: expert, away: anti, where_masked: ze - za }];
    let mut numbers = vec![zb, ze, za, entropy(base, zb), kl_divergence(base, zb, expert, ze)];
    let (forward, reverse) = kl_both(expert, ze, anti, za);
    numbers.extend([forward, reverse, jensen_shannon(expert, ze, anti, za)]);
    let mut written = vec![vec![0.0; base.len()]; 4];
    log_softmax(base, zb, &mut written[0]);
    softmax(base, zb, &mut written[1]);
    masked_difference(expert, anti, ze - za, &mut written[2]);
    linear_combination(base, 0.7, &contrasts, &mut written[3]);
    mask_implausible(base, 0.01, &mut written[3]);
    let mut bits: Vec<u64> = numbers.into_iter().map(f64::to_bits).collect();
    bits.extend(written.iter().flatten().map(|x| u64::from(x.to_bits())));
    bits.push(argmax(base) as u64);
    bits.extend(top_k(base, 7).into_iter().flat_map(|(id, x)| [u64::from(id), u64::from(x.to_bits())]));
    bits.push(u64::from(check_row(base).is_ok()));
    bits
}

fn rows() -> impl Strategy<Value = [Vec<f32>; 3]> {
    let entry = prop_oneof![
        8 => -20.0_f32..20.0,
        1 => -1e4_f32..1e4,
        1 => Just(f32::NEG_INFINITY),
        1 => Just(0.0_f32),
    ];
    // Lengths around the borders of lanes, strides and blocks.
    let len = prop_oneof![1..40_usize, 120..136_usize, 500..530_usize, 1020..1030_usize, 2000..3000_usize];
    len.prop_flat_map(move |len| {
        let row = || {
            prop::collection::vec(entry.clone(), len).prop_map(|mut row| {
                row[0] = 1.5;
                row
            })
        };
        [row(), row(), row()]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_instruction_set_gives_the_same_bits(rows in rows(), alpha in -1.0..3.0) {
        let run = || everything(rows.each_ref().map(Vec::as_slice), alpha);
        let dispatched = at(Level::Dispatched, run);
        prop_assert_eq!(&dispatched, &at(Level::Baseline, run));
        #[cfg(target_arch = "x86_64")]
        prop_assert_eq!(&dispatched, &at(Level::Avx2, run));
    }
}

/// All f32 within the range and a step beyond, against f64: the promise of `exp` on accuracy.
#[test]
fn exp_is_within_two_units_in_the_last_place() {
    let mut worst = 0.0_f64;
    for bits in (0..=0x42c0_0000_u32).step_by(97) {
        for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
            let exact = f64::from(x).exp();
            let ours = f64::from(lanes::exp(x));
            if x < -87.0 {
                assert_eq!(ours, 0.0, "exp({x})");
            } else if x <= 88.0 {
                worst = worst.max((ours - exact).abs() / (exact * f64::from(f32::EPSILON)));
            }
        }
    }
    // f32::EPSILON is one unit relative to the lower end of a binade, so this is the strictest reading.
    assert!(worst < 2.0, "{worst} units");
    assert_eq!(lanes::exp(f32::NEG_INFINITY), 0.0);
    assert_eq!(lanes::exp(0.0), 1.0);
    // What lets a sum of exponentials show that there was a NaN.
    assert_eq!(lanes::exp(f32::NAN), lanes::exp(88.0));
}

/// A quiet NaN, a negative signalling one, infinity.
const NO_NUMBERS: [u32; 3] = [0x7fc0_0000, 0xff80_0001, 0x7f80_0000];

fn levels() -> impl Iterator<Item = Level> {
    [
        Level::Dispatched,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        Level::Baseline,
    ]
    .into_iter()
}

#[test]
fn one_entry_that_is_no_number_is_seen_in_every_lane_of_every_instruction_set() {
    for level in levels() {
        for len in [1, 15, 16, 17, 33, 129, 513, 530] {
            for fill in [0.0, f32::MAX, f32::NEG_INFINITY] {
                let mut row = vec![fill; len];
                for id in 0..len {
                    for bits in NO_NUMBERS {
                        row[id] = f32::from_bits(bits);
                        let (normaliser, checked) = at(level, || (log_sum_exp(&row), check_row(&row)));
                        assert!(normaliser.is_nan(), "{level:?}: {bits:x} at {id} of {len} x {fill}: {normaliser}");
                        assert!(checked.unwrap_err().to_string().starts_with(&format!("entry {id} is")));
                    }
                    row[id] = fill;
                }
            }
        }
    }
}

#[test]
fn any_number_of_entries_that_are_no_numbers_is_seen() {
    for level in levels() {
        for len in [16, 512, 700] {
            let mut row: Vec<f32> = (0..len).map(|id| (id % 37) as f32 - 20.0).collect();
            for count in 0..len {
                row[count * 7919 % len] = f32::NAN;
                let normaliser = at(level, || log_sum_exp(&row));
                assert!(normaliser.is_nan(), "{level:?}: {count} of {len}: {normaliser}");
            }
        }
    }
}

#[test]
fn rows_of_numbers_have_a_normaliser_whatever_their_size() {
    for level in levels() {
        for fill in [0.0, f32::MAX, f32::MIN, -0.0, f32::MIN_POSITIVE] {
            let row = vec![fill; 300_000];
            let expected = f64::from(fill) + 300_000_f64.ln();
            let normaliser = at(level, || log_sum_exp(&row));
            assert!((normaliser - expected).abs() <= 1e-6 + 1e-12 * expected.abs(), "{fill}: {normaliser}");
        }
        assert_eq!(at(level, || log_sum_exp(&[f32::NEG_INFINITY; 700])), f64::NEG_INFINITY);
        assert_eq!(at(level, || log_sum_exp(&[])), f64::NEG_INFINITY);
    }
}

/// The exponential with the shorter polynomial, for sums over a distribution.
#[test]
fn fast_exp_keeps_its_error_bound() {
    for step in 0..200_000_u32 {
        let x = 88.0 - 175.0 * (step as f32 / 200_000.0);
        let exact = f64::from(x).exp();
        let off = (f64::from(lanes::fast_exp(x)) - exact).abs() / exact;
        assert!(off < 3e-7 + 8e-8 * f64::from(x.abs()), "{x}: {off}");
    }
    assert!(lanes::fast_exp(f32::NEG_INFINITY) < 1.2e-38);
}

#[test]
fn exp_in_f64_has_fourteen_digits() {
    for step in -140_000..140_000_i32 {
        let x = 0.005 * f64::from(step) + 1e-4;
        let off = (lanes::exp_f64(x) / x.exp() - 1.0).abs();
        assert!(off < 1e-14, "{x}: {off}");
    }
    assert_eq!(lanes::exp_f64(-701.0), 0.0);
}
