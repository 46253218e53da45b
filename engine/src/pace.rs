//! How long drafts should be.

use crate::{DraftCosts, DraftLength};

/// After so many steps without draft one token is drafted, to see whether drafts would be accepted by now.
const PROBE: usize = 32;
/// What is believed before the first draft: this share of tokens accepted, with the weight of this many tokens.
const PRIOR: (f64, f64) = (0.7, 4.0);
/// What an observation weighs one draft later.
const MEMORY: f64 = 0.85;

/// How often drafts stood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    accepted: f64,
    tried: f64,
}

impl Habit {
    const NONE: Self = Self { accepted: PRIOR.0 * PRIOR.1, tried: PRIOR.1 };

    /// What is left of it for a sequence to begin with: its share, with a little more weight than nobody's.
    pub(crate) fn legacy(&self) -> Self {
        let weight = self.tried.min(2.0 * PRIOR.1);
        Self { accepted: self.accepted / self.tried * weight, tried: weight }
    }
}

/// One sequence's draft length. It follows from the sequence's own history, so that a sequence does not depend on what
/// runs beside it; where a draft changes no token, it may begin with the habit of those before.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    costs: Option<DraftCosts>,
    length: usize,
    habit: Habit,
    idle: usize,
}

impl Pace {
    pub(crate) fn new(length: &DraftLength, habit: Option<Habit>) -> Self {
        let (costs, length) = match length {
            DraftLength::Fixed(length) => (None, *length),
            DraftLength::Adaptive(costs) => (Some(costs.clone()), 0),
        };
        let mut pace = Self { costs, length, habit: habit.unwrap_or(Habit::NONE), idle: 0 };
        pace.choose();
        pace
    }

    /// Without speculation.
    pub(crate) fn none() -> Self {
        Self::new(&DraftLength::Fixed(0), None)
    }

    /// Tokens to draft now.
    pub(crate) fn length(&self) -> usize {
        if self.costs.is_some() && self.length == 0 && self.idle >= PROBE { 1 } else { self.length }
    }

    /// Of a draft of `drafted` tokens the first `accepted` stood.
    pub(crate) fn learn(&mut self, drafted: usize, accepted: usize) {
        if drafted == 0 {
            self.idle += 1;
            return;
        }
        self.idle = 0;
        // Tokens behind a rejected one were not tried.
        let tried = if accepted < drafted { accepted + 1 } else { accepted };
        self.habit.accepted = MEMORY * self.habit.accepted + accepted as f64;
        self.habit.tried = MEMORY * self.habit.tried + tried as f64;
        self.choose();
    }

    pub(crate) fn habit(&self) -> Habit {
        self.habit
    }

    fn choose(&mut self) {
        let Some(costs) = &self.costs else { return };
        let share = self.habit.accepted / self.habit.tried;
        let rate = |length: usize, verify: f64| {
            // 1 + a + … + aⁿ tokens come of a draft of n (Leviathan et al. 2023, eq. 1).
            let tokens: f64 = (0..=length).map(|n| share.powi(i32::try_from(n).unwrap_or(i32::MAX))).sum();
            tokens / (length as f64 * costs.draft + verify)
        };
        let rates = costs.verify.iter().enumerate().map(|(length, &verify)| (rate(length, verify), length));
        // Of equals the shortest.
        let best = rates.reduce(|best, next| if next.0 > best.0 { next } else { best });
        self.length = best.map_or(0, |(_, length)| length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adaptive(draft: f64, verify: &[f64]) -> Pace {
        Pace::new(&DraftLength::Adaptive(DraftCosts { draft, verify: verify.to_vec() }), None)
    }

    #[test]
    fn drafts_that_do_not_pay_are_not_made_but_for_a_probe() {
        let mut pace = adaptive(5.0, &[1.0, 2.0, 3.0]);
        assert_eq!(pace.length(), 0);
        for _ in 0..PROBE {
            pace.learn(0, 0);
        }
        assert_eq!(pace.length(), 1);
        pace.learn(1, 0);
        assert_eq!(pace.length(), 0);
    }

    #[test]
    fn accepted_drafts_grow_and_rejected_ones_shrink() {
        let mut pace = adaptive(0.1, &[1.0, 1.05, 1.1, 1.15, 1.2, 1.25]);
        let before = pace.length();
        for _ in 0..20 {
            pace.learn(pace.length(), pace.length());
        }
        assert!(pace.length() >= before && pace.length() == 5, "{}", pace.length());
        for _ in 0..40 {
            pace.learn(pace.length().max(1), 0);
        }
        assert_eq!(pace.length(), 0);
    }

    #[test]
    fn a_fixed_length_is_fixed() {
        let mut pace = Pace::new(&DraftLength::Fixed(3), None);
        pace.learn(3, 0);
        assert_eq!(pace.length(), 3);
    }
}
