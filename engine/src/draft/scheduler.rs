//! How long drafts should be.

use crate::{DraftCosts, DraftLength};

/// After so many steps without draft one token is drafted, to see whether drafts would be accepted by now.
const PROBE: usize = 32;
/// What is believed before the first draft: this share of tokens accepted, with the weight of this many tokens.
const PRIOR: (f64, f64) = (0.7, 4.0);
/// What an observation weighs one draft later.
const MEMORY: f64 = 0.85;
/// Where one class of confidence ends and the next begins.
const CLASS_BOUNDS: [f64; 5] = [0.3, 0.6, 0.85, 0.95, 0.99];
/// A drafter's probability is trusted, but not beyond this, with the weight of this many tokens.
const TRUST: (f64, f64) = (0.97, 4.0);
/// What an observation weighs one token of its class later.
const CLASS_MEMORY: f64 = 0.95;

/// How many of the tokens that were tried were accepted.
#[derive(Clone, Copy, Debug, Default)]
struct Ratio {
    accepted: f64,
    tried: f64,
}

impl Ratio {
    /// With no more than this weight.
    fn at_most(self, tried: f64) -> Self {
        if self.tried <= tried {
            return self;
        }
        Self { accepted: self.accepted / self.tried * tried, tried }
    }
}

/// How often drafted tokens were accepted: all of them, and by the probability that the drafter gave them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptanceStats {
    all: Ratio,
    classes: [Ratio; CLASS_BOUNDS.len() + 1],
}

impl AcceptanceStats {
    const NONE: Self = Self {
        all: Ratio { accepted: PRIOR.0 * PRIOR.1, tried: PRIOR.1 },
        classes: [Ratio { accepted: 0.0, tried: 0.0 }; CLASS_BOUNDS.len() + 1],
    };

    /// What another sequence begins with: the same ratios, with a little more weight than no observation has.
    pub(crate) fn prior(&self) -> Self {
        Self { all: self.all.at_most(2.0 * PRIOR.1), classes: self.classes.map(|class| class.at_most(4.0 * TRUST.1)) }
    }

    /// The probability that a token is accepted to which the drafter gave this one.
    fn acceptance(&self, confidence: f64) -> f64 {
        let class = self.classes[class(confidence)];
        (class.accepted + confidence.min(TRUST.0) * TRUST.1) / (class.tried + TRUST.1)
    }

    fn learn(&mut self, confidence: f64, accepted: bool) {
        let class = &mut self.classes[class(confidence)];
        class.accepted = CLASS_MEMORY * class.accepted + f64::from(u8::from(accepted));
        class.tried = CLASS_MEMORY * class.tried + 1.0;
    }
}

fn class(confidence: f64) -> usize {
    CLASS_BOUNDS.iter().filter(|&&bound| confidence >= bound).count()
}

/// Chooses one sequence's draft lengths. They follow from the sequence's own history, so that a sequence does not depend on
/// what runs beside it; where a draft changes no token, they may begin with the statistics of those before.
#[derive(Clone, Debug)]
pub(crate) struct DraftScheduler {
    costs: Option<DraftCosts>,
    length: usize,
    /// Tokens per time that drafts of that length promise.
    rate: f64,
    stats: AcceptanceStats,
    idle: usize,
}

impl DraftScheduler {
    pub(crate) fn new(length: &DraftLength, stats: Option<AcceptanceStats>) -> Self {
        let (costs, length) = match length {
            DraftLength::Fixed(length) => (None, *length),
            DraftLength::Adaptive(costs) => (Some(costs.clone()), 0),
        };
        let mut scheduler = Self { costs, length, rate: 0.0, stats: stats.unwrap_or(AcceptanceStats::NONE), idle: 0 };
        scheduler.choose();
        scheduler
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

    /// Whether one more token is worth drafting behind those with these probabilities under the drafter. A token that is
    /// drafted is always verified: to leave it out for what it is would change how texts are distributed.
    pub(crate) fn continues(&self, confidences: impl Iterator<Item = f64>) -> bool {
        let Some(costs) = &self.costs else { return true };
        let (mut accepted, mut drafted) = (1.0, 0);
        for confidence in confidences {
            accepted *= self.stats.acceptance(confidence);
            drafted += 1;
        }
        let [first, .., last] = costs.verify[..] else { return false };
        // Over all lengths, because two neighbours that were timed differ by noise, too.
        let one_more = costs.draft + (last - first) / (costs.verify.len() - 1) as f64;
        let gain = accepted * self.stats.all.accepted / self.stats.all.tried;
        drafted == 0 || drafted + 1 < costs.verify.len() && gain > self.rate * one_more
    }

    /// Of a draft of tokens with these probabilities under the drafter, the first `accepted` were accepted.
    pub(crate) fn learn(&mut self, drafted: impl ExactSizeIterator<Item = f64>, accepted: usize) {
        if drafted.len() == 0 {
            self.idle += 1;
            return;
        }
        self.idle = 0;
        // Tokens behind a rejected one were not tried.
        let tried = drafted.len().min(accepted + 1);
        self.stats.all.accepted = MEMORY * self.stats.all.accepted + accepted as f64;
        self.stats.all.tried = MEMORY * self.stats.all.tried + tried as f64;
        for (nth, confidence) in drafted.take(tried).enumerate() {
            self.stats.learn(confidence, nth < accepted);
        }
        self.choose();
    }

    pub(crate) fn stats(&self) -> AcceptanceStats {
        self.stats
    }

    fn choose(&mut self) {
        let Some(costs) = &self.costs else { return };
        let share = self.stats.all.accepted / self.stats.all.tried;
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

    fn adaptive(draft: f64, verify: &[f64]) -> DraftScheduler {
        DraftScheduler::new(&DraftLength::Adaptive(DraftCosts { draft, verify: verify.to_vec() }), None)
    }

    #[test]
    fn drafts_that_do_not_pay_are_not_made_but_for_a_probe() {
        let mut scheduler = adaptive(5.0, &[1.0, 2.0, 3.0]);
        assert_eq!(scheduler.length(), 0);
        for _ in 0..PROBE {
            scheduler.learn([].into_iter(), 0);
        }
        assert_eq!(scheduler.length(), 1);
        scheduler.learn([0.9].into_iter(), 0);
        assert_eq!(scheduler.length(), 0);
    }

    #[test]
    fn accepted_drafts_grow_and_rejected_ones_shrink() {
        let mut scheduler = adaptive(0.1, &[1.0, 1.05, 1.1, 1.15, 1.2, 1.25]);
        let before = scheduler.length();
        for _ in 0..20 {
            scheduler.learn(vec![0.9; scheduler.length()].into_iter(), scheduler.length());
        }
        assert!(scheduler.length() >= before && scheduler.length() == 5, "{}", scheduler.length());
        for _ in 0..40 {
            scheduler.learn(vec![0.9; scheduler.length().max(1)].into_iter(), 0);
        }
        assert_eq!(scheduler.length(), 0);
    }

    #[test]
    fn a_fixed_length_is_fixed() {
        let mut scheduler = DraftScheduler::new(&DraftLength::Fixed(3), None);
        scheduler.learn([0.9; 3].into_iter(), 0);
        assert_eq!((scheduler.length(), scheduler.longest()), (3, 3));
        assert!(scheduler.continues([0.1, 0.1].into_iter()));
    }

    #[test]
    fn a_draft_continues_while_its_drafter_is_sure() {
        let scheduler = adaptive(0.3, &[1.0, 1.05, 1.1, 1.15, 1.2]);
        assert_eq!(scheduler.longest(), 4);
        assert!(scheduler.continues([].into_iter()) && scheduler.continues([0.99, 0.99].into_iter()));
        assert!(!scheduler.continues([0.99, 0.2].into_iter()));
        assert!(!scheduler.continues([1.0; 4].into_iter()), "no longer than costs are known");
    }

    #[test]
    fn a_drafter_that_is_sure_without_reason_is_found_out() {
        let mut scheduler = adaptive(0.3, &[1.0, 1.05, 1.1, 1.15, 1.2]);
        for _ in 0..20 {
            // What stands otherwise keeps drafts worth making.
            scheduler.learn([0.5].into_iter(), 1);
            scheduler.learn([0.97].into_iter(), 0);
        }
        assert!(scheduler.longest() == 4 && scheduler.continues([0.5].into_iter()), "{scheduler:?}");
        assert!(!scheduler.continues([0.97].into_iter()));
    }
}
