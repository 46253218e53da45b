//! How long drafts should be.

use crate::{DraftCosts, DraftLength};

/// After so many steps without draft one token is drafted, to see whether drafts would be accepted by now.
const PROBE: usize = 32;
/// What is believed before the first draft: this share of tokens accepted, with the weight of this many tokens.
const PRIOR: (f64, f64) = (0.7, 4.0);
/// What an observation weighs one draft later.
const MEMORY: f64 = 0.85;
/// Where one class of confidence ends and the next begins.
const CONFIDENT: [f64; 5] = [0.3, 0.6, 0.85, 0.95, 0.99];
/// A drafter is believed at its word, but not beyond this, with the weight of this many tokens.
const WORD: (f64, f64) = (0.97, 4.0);
/// What an observation weighs one token of its class later.
const CLASS_MEMORY: f64 = 0.95;

/// How many of the tokens that were tried stood.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    accepted: f64,
    tried: f64,
}

impl Share {
    /// With no more than this weight.
    fn at_most(self, tried: f64) -> Self {
        if self.tried <= tried {
            return self;
        }
        Self { accepted: self.accepted / self.tried * tried, tried }
    }
}

/// How often drafts stood, and how often tokens of which the drafter was so sure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    all: Share,
    classes: [Share; CONFIDENT.len() + 1],
}

impl Habit {
    const NONE: Self = Self {
        all: Share { accepted: PRIOR.0 * PRIOR.1, tried: PRIOR.1 },
        classes: [Share { accepted: 0.0, tried: 0.0 }; CONFIDENT.len() + 1],
    };

    /// What is left of it for a sequence to begin with: its share, with a little more weight than nobody's.
    pub(crate) fn legacy(&self) -> Self {
        Self { all: self.all.at_most(2.0 * PRIOR.1), classes: self.classes.map(|class| class.at_most(4.0 * WORD.1)) }
    }

    /// The probability that a token stands of which the drafter is so sure.
    fn stands(&self, confidence: f64) -> f64 {
        let class = self.classes[class(confidence)];
        (class.accepted + confidence.min(WORD.0) * WORD.1) / (class.tried + WORD.1)
    }

    fn learn(&mut self, confidence: f64, stood: bool) {
        let class = &mut self.classes[class(confidence)];
        class.accepted = CLASS_MEMORY * class.accepted + f64::from(u8::from(stood));
        class.tried = CLASS_MEMORY * class.tried + 1.0;
    }
}

fn class(confidence: f64) -> usize {
    CONFIDENT.iter().filter(|&&bound| confidence >= bound).count()
}

/// One sequence's draft length. It follows from the sequence's own history, so that a sequence does not depend on what
/// runs beside it; where a draft changes no token, it may begin with the habit of those before.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    costs: Option<DraftCosts>,
    length: usize,
    /// Tokens per time that drafts of that length promise.
    rate: f64,
    habit: Habit,
    idle: usize,
}

impl Pace {
    pub(crate) fn new(length: &DraftLength, habit: Option<Habit>) -> Self {
        let (costs, length) = match length {
            DraftLength::Fixed(length) => (None, *length),
            DraftLength::Adaptive(costs) => (Some(costs.clone()), 0),
        };
        let mut pace = Self { costs, length, rate: 0.0, habit: habit.unwrap_or(Habit::NONE), idle: 0 };
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

    /// The longest draft now, where it is asked after each token whether it goes on.
    pub(crate) fn longest(&self) -> usize {
        match &self.costs {
            Some(costs) if self.length > 0 => costs.verify.len() - 1,
            _ => self.length(),
        }
    }

    /// Whether one more token is worth drafting behind those of which the drafter was so sure. A token that is drafted is
    /// always looked at: to leave it out for what it is would change how texts are distributed.
    pub(crate) fn goes_on(&self, confidences: impl Iterator<Item = f64>) -> bool {
        let Some(costs) = &self.costs else { return true };
        let (mut stands, mut drafted) = (1.0, 0);
        for confidence in confidences {
            stands *= self.habit.stands(confidence);
            drafted += 1;
        }
        let [first, .., last] = costs.verify[..] else { return false };
        // Over all lengths, because two neighbours that were timed differ by noise, too.
        let one_more = costs.draft + (last - first) / (costs.verify.len() - 1) as f64;
        let gain = stands * self.habit.all.accepted / self.habit.all.tried;
        drafted == 0 || drafted + 1 < costs.verify.len() && gain > self.rate * one_more
    }

    /// Of a draft of tokens of which the drafter was so sure the first `accepted` stood.
    pub(crate) fn learn(&mut self, drafted: impl ExactSizeIterator<Item = f64>, accepted: usize) {
        if drafted.len() == 0 {
            self.idle += 1;
            return;
        }
        self.idle = 0;
        // Tokens behind a rejected one were not tried.
        let tried = drafted.len().min(accepted + 1);
        self.habit.all.accepted = MEMORY * self.habit.all.accepted + accepted as f64;
        self.habit.all.tried = MEMORY * self.habit.all.tried + tried as f64;
        for (nth, confidence) in drafted.take(tried).enumerate() {
            self.habit.learn(confidence, nth < accepted);
        }
        self.choose();
    }

    pub(crate) fn habit(&self) -> Habit {
        self.habit
    }

    fn choose(&mut self) {
        let Some(costs) = &self.costs else { return };
        let share = self.habit.all.accepted / self.habit.all.tried;
        let rate = |length: usize, verify: f64| {
            // 1 + a + … + aⁿ tokens come of a draft of n (Leviathan et al. 2023, eq. 1).
            let tokens: f64 = (0..=length).map(|n| share.powi(i32::try_from(n).unwrap_or(i32::MAX))).sum();
            tokens / (length as f64 * costs.draft + verify)
        };
        let rates = costs.verify.iter().enumerate().map(|(length, &verify)| (rate(length, verify), length));
        // Of equals the shortest.
        let best = rates.reduce(|best, next| if next.0 > best.0 { next } else { best });
        (self.rate, self.length) = best.unwrap_or((0.0, 0));
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
            pace.learn([].into_iter(), 0);
        }
        assert_eq!(pace.length(), 1);
        pace.learn([0.9].into_iter(), 0);
        assert_eq!(pace.length(), 0);
    }

    #[test]
    fn accepted_drafts_grow_and_rejected_ones_shrink() {
        let mut pace = adaptive(0.1, &[1.0, 1.05, 1.1, 1.15, 1.2, 1.25]);
        let before = pace.length();
        for _ in 0..20 {
            pace.learn(vec![0.9; pace.length()].into_iter(), pace.length());
        }
        assert!(pace.length() >= before && pace.length() == 5, "{}", pace.length());
        for _ in 0..40 {
            pace.learn(vec![0.9; pace.length().max(1)].into_iter(), 0);
        }
        assert_eq!(pace.length(), 0);
    }

    #[test]
    fn a_fixed_length_is_fixed() {
        let mut pace = Pace::new(&DraftLength::Fixed(3), None);
        pace.learn([0.9; 3].into_iter(), 0);
        assert_eq!((pace.length(), pace.longest()), (3, 3));
        assert!(pace.goes_on([0.1, 0.1].into_iter()));
    }

    #[test]
    fn a_draft_goes_on_while_its_drafter_is_sure() {
        let pace = adaptive(0.3, &[1.0, 1.05, 1.1, 1.15, 1.2]);
        assert_eq!(pace.longest(), 4);
        assert!(pace.goes_on([].into_iter()) && pace.goes_on([0.99, 0.99].into_iter()));
        assert!(!pace.goes_on([0.99, 0.2].into_iter()));
        assert!(!pace.goes_on([1.0; 4].into_iter()), "no longer than costs are known");
    }

    #[test]
    fn a_drafter_that_is_sure_without_reason_is_found_out() {
        let mut pace = adaptive(0.3, &[1.0, 1.05, 1.1, 1.15, 1.2]);
        for _ in 0..20 {
            // What stands otherwise keeps drafts worth making.
            pace.learn([0.5].into_iter(), 1);
            pace.learn([0.97].into_iter(), 0);
        }
        assert!(pace.longest() == 4 && pace.goes_on([0.5].into_iter()), "{pace:?}");
        assert!(!pace.goes_on([0.97].into_iter()));
    }
}
