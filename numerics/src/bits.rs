//! The promise that a kernel gives the same bits on every instruction set, tested on those that this machine has.
//! `logitfuse-core` tests its own kernels likewise; those that are called here run as users get them.

use std::cell::Cell;

use logitfuse_core::RoleRow;
use logitfuse_core::numerics::{log_sum_exp, masked_difference};
use proptest::prelude::*;
use pulp::NullaryFnOnce;

use crate::*;

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
pub(crate) fn forced<K: NullaryFnOnce>(kernel: K) -> Result<K::Output, K> {
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
    let mut direction = vec![0.0; base.len()];
    masked_difference(expert, anti, ze - za, &mut direction);
    let mut tilted = vec![0.0; base.len()];
    exponential_tilt(base, &direction, alpha, &mut tilted);
    let moments = tilt_moments(base, zb, &direction, alpha);
    let mut numbers = vec![moments.log_partition, moments.mean, moments.variance];
    let [expert_row, anti_row] = [(expert, ze), (anti, za)].map(|(row, z)| RoleRow::new(row, z, 0.0));
    let mut steered = vec![0.0; base.len()];
    let targets = Targets::with_direction(&expert_row, &anti_row, &mut steered);
    numbers.extend([targets.forward, targets.reverse, targets.anti_variance]);
    let mut family = TiltFamily::new(2.0);
    family.summarise(base, zb, &steered);
    let point = family.at(alpha);
    numbers.extend([point.kl_tilted_base, point.kl_base_tilted, point.mean, point.variance, point.log_partition]);
    for solution in [
        family.solve(Objective::BothDivergences, &targets, Bounds::default()),
        family.budget(0.5, Bounds::default()),
        Grid::default().solve(base, zb, &steered, Objective::BothDivergences, &targets),
    ] {
        numbers.extend([solution.alpha, solution.loss, solution.kl_tilted_base, solution.kl_base_tilted]);
    }
    let mut in_place = steered.clone();
    exponential_tilt_in_place(base, &mut in_place, alpha);
    let written = [tilted, steered, in_place];
    let mut bits: Vec<u64> = numbers.into_iter().map(f64::to_bits).collect();
    bits.extend(written.iter().flatten().map(|x| u64::from(x.to_bits())));
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
