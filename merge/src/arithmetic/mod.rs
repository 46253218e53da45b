//! What each method computes, over slices of `f32`: no files, no graph, no quantisation.
//!
//! A tensor of gigabytes is never whole in memory. Where a method needs a number of the whole tensor (a threshold, a norm, an
//! angle), it is gathered from pieces in order first, and every piece is merged with it afterwards. Sums are kept in f64
//! and rounded once, so that a result does not depend on how a tensor was cut.
//!
//! Formulas are those of the papers; where a paper leaves something open, it is decided as mergekit 0.1.5 decides it,
//! so that results can be compared. Each module says which is which.

pub mod dare;
pub mod linear;
pub mod slerp;
pub mod task_arithmetic;
pub mod ties;

/// `expert − base`, element by element: what tuning changed, called task vector or delta.
pub fn delta(base: &[f32], expert: &[f32], out: &mut [f32]) {
    for ((out, &expert), &base) in out.iter_mut().zip(expert).zip(base) {
        *out = expert - base;
    }
}

/// Multiplies a delta.
pub fn scale(delta: &mut [f32], factor: f64) {
    for value in delta.iter_mut() {
        *value = rounded(f64::from(*value) * factor);
    }
}

/// The sums of a delta's magnitudes, before and after elements were taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Magnitudes {
    /// Of all elements.
    pub before: f64,
    /// Of those that stayed.
    pub after: f64,
}

impl Magnitudes {
    /// Sums below this are not restored; mergekit's bound.
    const NOTHING: f64 = 1e-7;

    /// Counts a piece.
    pub fn add(&mut self, before: &[f32], after: &[f32]) {
        let sum = |delta: &[f32]| delta.iter().map(|value| f64::from(value.abs())).sum::<f64>();
        self.before += sum(before);
        self.after += sum(after);
    }

    /// What the elements that stayed are multiplied with, so that their magnitudes sum to those of all.
    pub fn factor(self) -> f64 {
        if self.before < Self::NOTHING || self.after < Self::NOTHING { 1.0 } else { self.before / self.after }
    }
}

/// The nearest `f32`: sums are kept in f64.
#[expect(clippy::cast_possible_truncation, reason = "the one place where a sum is rounded")]
fn rounded(sum: f64) -> f32 {
    sum as f32
}
