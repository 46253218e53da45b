//! What holds for every strategy, and what holds for this one.

#![expect(clippy::float_cmp, reason = "flags, bounds and promises about bits are compared exactly")]

mod budget;
mod fingerprint;
mod refusals;
mod several;
mod strength;
mod support;
