//! Attribution of the tokens of a traced response to sources.

use logitfuse_rundir::TokenRecord;

use crate::palette::SHADES;

/// How the top tokens of base and experts compare with the token that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// The top token of the base and of every expert was taken.
    All,
    /// The base's top token was taken, and an expert's is another one.
    Base,
    /// An expert's top token was taken, and the base's is another one.
    Expert,
    /// Base and experts agree on another token.
    AgainstBoth,
    /// Base and experts disagree, and a third token was taken.
    Third,
}

impl Agreement {
    pub(crate) const EACH: [(Self, &'static str); 5] = [
        (Self::All, "all agree"),
        (Self::Base, "base's top token"),
        (Self::Expert, "an expert's top token"),
        (Self::AgainstBoth, "against both"),
        (Self::Third, "neither's top token"),
    ];

    /// None where a token has no base or no expert with top tokens.
    pub(crate) fn of(token: &TokenRecord) -> Option<Self> {
        let top = |role: &logitfuse_rundir::BindingToken| role.top_logprobs.first().map(|top| top.token);
        let base = token.roles.iter().find(|role| role.role == "base").and_then(top)?;
        let mut experts = token.roles.iter().filter(|role| is_expert(&role.role)).filter_map(top).peekable();
        experts.peek()?;
        let experts: Vec<_> = experts.collect();
        let taken = token.token;
        let any_expert = experts.contains(&taken);
        Some(match (base == taken, any_expert) {
            (true, _) if experts.iter().all(|e| *e == taken) => Self::All,
            (true, _) => Self::Base,
            (false, true) => Self::Expert,
            (false, false) if experts.iter().all(|e| *e == base) => Self::AgainstBoth,
            (false, false) => Self::Third,
        })
    }

    /// The number of its colour.
    pub(crate) fn class(self) -> usize {
        Self::EACH.iter().position(|(known, _)| *known == self).unwrap_or(0)
    }
}

/// The role, the anti aside, that finds the token most probable: its place among the roles. The first of equals.
pub(crate) fn winner(token: &TokenRecord) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    let roles = token.roles.iter().enumerate().filter(|(_, role)| role.role != "anti");
    for (i, log_prob) in roles.filter_map(|(i, role)| Some((i, role.log_prob?))) {
        if best.is_none_or(|(_, before)| log_prob > before) {
            best = Some((i, log_prob));
        }
    }
    best.map(|(i, _)| i)
}

/// The colour of a winner: the base's, then one for each further role, the last one for all that are left.
pub(crate) fn winner_class(token: &TokenRecord, winner: usize) -> usize {
    if token.roles[winner].role == "base" {
        return 1;
    }
    let before = token.roles[..winner].iter().filter(|role| is_expert(&role.role)).count();
    (2 + before).min(4)
}

/// Which shade a value has between 0 and the largest of the run.
pub(crate) fn shade(value: f64, most: f64) -> usize {
    if most <= 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and SHADES - 1")]
    let shade = ((value / most).clamp(0.0, 1.0) * (SHADES - 1) as f64).round() as usize;
    shade
}

fn is_expert(role: &str) -> bool {
    role != "base" && role != "anti"
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitfuse_rundir::{BindingToken, TopLogprob};

    fn token(taken: u32, roles: &[(&str, u32, f64)]) -> TokenRecord {
        let role = |&(role, top, log_prob): &(&str, u32, f64)| BindingToken {
            role: role.to_owned(),
            source: role.to_owned(),
            log_prob: Some(log_prob),
            top_logprobs: vec![TopLogprob { token: top, text: String::new(), log_prob }],
        };
        TokenRecord {
            token: taken,
            text: String::new(),
            log_prob: -0.1,
            top_logprobs: vec![],
            trace: [].into(),
            roles: roles.iter().map(role).collect(),
        }
    }

    #[test]
    fn every_agreement() {
        let of = |taken, base, expert| {
            Agreement::of(&token(taken, &[("base", base, -1.0), ("expert", expert, -2.0), ("anti", 9, 0.0)])).unwrap()
        };
        assert_eq!(of(1, 1, 1), Agreement::All);
        assert_eq!(of(1, 1, 2), Agreement::Base);
        assert_eq!(of(1, 2, 1), Agreement::Expert);
        assert_eq!(of(1, 2, 2), Agreement::AgainstBoth);
        assert_eq!(of(1, 2, 3), Agreement::Third);
        assert_eq!(Agreement::of(&token(1, &[("base", 1, 0.0)])), None);
    }

    #[test]
    fn the_anti_never_wins() {
        let of = token(1, &[("anti", 1, 0.0), ("base", 1, -2.0), ("expert", 1, -1.0), ("expert", 1, -1.0)]);
        assert_eq!(winner(&of), Some(2));
        assert_eq!((winner_class(&of, 1), winner_class(&of, 2), winner_class(&of, 3)), (1, 2, 3));
    }

    #[test]
    fn shades() {
        assert_eq!((shade(0.0, 2.0), shade(1.0, 2.0), shade(2.0, 2.0), shade(-1.0, 2.0)), (0, 3, 6, 0));
        assert_eq!(shade(1.0, 0.0), 0);
    }
}
