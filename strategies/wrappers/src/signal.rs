//! The signals that open a gate.

use logitfuse_core::{
    RoleRow,
    numerics::{argmax, entropy},
};

/// The probability of the top token.
pub(crate) fn max_prob(row: &RoleRow<'_>) -> f64 {
    (f64::from(best(row)) - row.log_normaliser).exp()
}

/// The entropy in nats.
pub(crate) fn uncertainty(row: &RoleRow<'_>) -> f64 {
    entropy(row.logits(), row.log_normaliser)
}

/// Whether the rows have no top token in common. Ids that tie for the first place all count, so that the answer does not depend on
/// the order of the ids.
#[expect(clippy::float_cmp, reason = "a top token is an entry that equals the largest")]
pub(crate) fn disagree(a: &RoleRow<'_>, b: &RoleRow<'_>) -> bool {
    let (best_a, best_b) = (best(a), best(b));
    !a.logits().iter().zip(b.logits()).any(|(&a, &b)| a == best_a && b == best_b)
}

fn best(row: &RoleRow<'_>) -> f32 {
    row.logits()[argmax(row.logits())]
}
