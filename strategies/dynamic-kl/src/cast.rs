use logitfuse_core::{FusionStep, ProxyRows, Result, RoleRow, SessionInfo, TokenId};

/// Which row of a step plays which role.
#[derive(Clone, Debug)]
pub(crate) struct Cast(ProxyRows);

impl Cast {
    pub(crate) fn new(session: &SessionInfo) -> Result<Self> {
        ProxyRows::of(session, "dynamic-kl").map(Self)
    }

    pub(crate) fn experts(&self) -> usize {
        self.0.pairs.len()
    }
}

/// The rows of one position by role: what a [`Selector`](crate::Selector) judges.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    step: &'a FusionStep<'a>,
    cast: &'a Cast,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(step: &'a FusionStep<'a>, cast: &'a Cast) -> Self {
        Self { step, cast }
    }

    /// The large model's row.
    pub fn base(&self) -> &'a RoleRow<'a> {
        &self.step.rows()[self.cast.0.base]
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.cast.experts()
    }

    /// The row of one expert.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn expert(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[self.cast.0.pairs[index].0]
    }

    /// The row of what that expert was before tuning.
    ///
    /// # Panics
    /// If there are not as many experts.
    pub fn anti(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[self.cast.0.pairs[index].1]
    }

    /// Whether one source is the anti of every expert.
    pub fn shares_anti(&self) -> bool {
        self.cast.0.pairs.iter().all(|pair| pair.1 == self.cast.0.pairs[0].1)
    }

    /// By how many nats the expert predicted the tokens generated so far better than its anti did, prompt excluded.
    /// Infinite where one of the two held a token for impossible, 0 where both did.
    pub fn evidence(&self, index: usize) -> f64 {
        let difference = self.expert(index).sequence_log_prob - self.anti(index).sequence_log_prob;
        if difference.is_nan() { 0.0 } else { difference }
    }

    /// The tokens generated so far, prompt excluded.
    pub fn committed(&self) -> &'a [TokenId] {
        self.step.committed
    }
}
