use logitfuse_core::{FusionStep, PromptScore, ProxyRows, Result, RoleRow, SessionInfo, TokenId};

/// The rows of a step by role.
#[derive(Clone, Debug)]
pub(crate) struct Roles(ProxyRows);

impl Roles {
    pub(crate) fn new(session: &SessionInfo) -> Result<Self> {
        ProxyRows::of(session, "dynamic-kl").map(Self)
    }

    pub(crate) fn experts(&self) -> usize {
        self.0.pairs.len()
    }

    /// The row of one expert.
    pub(crate) fn expert(&self, index: usize) -> usize {
        self.0.pairs[index].0
    }

    /// The rows of the antis, each once, and of the experts.
    pub(crate) fn small_models(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.0.pairs.iter().map(|pair| pair.1).collect();
        rows.sort_unstable();
        rows.dedup();
        rows.extend(self.0.pairs.iter().map(|pair| pair.0));
        rows
    }
}

/// The rows of one position, by role: the input of a [`Selector`](crate::Selector).
#[derive(Clone, Copy, Debug)]
pub struct StepRows<'a> {
    step: &'a FusionStep<'a>,
    roles: &'a Roles,
    /// By row; empty but where a text begins and its weights ask for prompt scores.
    prompt: &'a [PromptScore],
}

impl<'a> StepRows<'a> {
    pub(crate) fn new(step: &'a FusionStep<'a>, roles: &'a Roles) -> Self {
        Self { step, roles, prompt: &[] }
    }

    /// The rows after a prompt.
    pub(crate) fn after_prompt(step: &'a FusionStep<'a>, roles: &'a Roles, prompt: &'a [PromptScore]) -> Self {
        Self { step, roles, prompt }
    }

    pub(crate) fn row(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[index]
    }

    /// The large model's row.
    pub fn base(&self) -> &'a RoleRow<'a> {
        &self.step.rows()[self.roles.0.base]
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.roles.experts()
    }

    /// The row of one expert.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn expert(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[self.roles.0.pairs[index].0]
    }

    /// The row of what that expert was before tuning.
    ///
    /// # Panics
    /// If there are not as many experts.
    pub fn anti(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[self.roles.0.pairs[index].1]
    }

    /// Whether one source is the anti of every expert.
    pub fn shares_anti(&self) -> bool {
        self.roles.0.pairs.iter().all(|pair| pair.1 == self.roles.0.pairs[0].1)
    }

    /// By how many nats the expert predicted the tokens generated so far better than its anti did, prompt excluded.
    /// Infinite where one of the two gave a token no probability, 0 where both did.
    pub fn evidence(&self, index: usize) -> f64 {
        let difference = self.expert(index).sequence_log_prob - self.anti(index).sequence_log_prob;
        if difference.is_nan() { 0.0 } else { difference }
    }

    /// By how many nats the expert predicted the prompt better than its anti did, and how many tokens that is the sum of. The
    /// two may have read it in different templates, so what is compared is nats per token. None and nothing but in
    /// [`Selector::begin`](crate::Selector::begin) of weights that ask for it.
    pub fn prompt_evidence(&self, index: usize) -> (f64, usize) {
        let (expert, anti) = self.roles.0.pairs[index];
        let (Some(expert), Some(anti)) = (self.prompt.get(expert), self.prompt.get(anti)) else { return (0.0, 0) };
        let difference = expert.mean().zip(anti.mean()).map_or(0.0, |(expert, anti)| expert - anti);
        (if difference.is_nan() { 0.0 } else { difference * expert.tokens as f64 }, expert.tokens)
    }

    /// The tokens generated so far, prompt excluded.
    pub fn committed(&self) -> &'a [TokenId] {
        self.step.committed
    }
}
