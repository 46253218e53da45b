//! Merges of small models, from a recipe to a folder.

#![expect(clippy::unwrap_used, reason = "a test fails where something does")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers are small, and rounding to f32 is what is tested"
)]
#![expect(clippy::float_cmp, reason = "where rounding may differ, there is a tolerance")]

mod determinism;
mod folders;
mod hostile;
mod methods;
mod peers;
mod quantised;
mod support;
