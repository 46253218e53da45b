/// How much of a prompt a strategy reads, see [`FusionState::begin`](crate::FusionState::begin).
///
/// Sources yield a prompt's last row in any case, so its end costs nothing. The rows of all other positions are logits
/// that are not computed otherwise, and a prefix that prompts share is run again for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptReading {
    /// The rows at its end, which are those of the first generated position.
    #[default]
    End,
    /// The log-probability of the prompt under every binding, too. Prompts may differ from role to role.
    LogProbs,
    /// All of that, and the rows of every position by [`FusionState::read_prompt`](crate::FusionState::read_prompt). All
    /// roles must have the same prompt, token by token.
    Rows,
}

/// The log-probability of a prompt under one binding's source.
///
/// The first token, which nothing predicts, does not count, nor do those that may not be generated, such as the special
/// tokens of chat templates.
///
/// ```
/// use logitfuse_core::PromptScore;
///
/// let score = PromptScore { log_prob: -12.0, tokens: 8 };
/// assert_eq!(score.mean(), Some(-1.5));
/// assert_eq!(PromptScore::default().mean(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PromptScore {
    /// Sum of log-probabilities, in nats.
    pub log_prob: f64,
    /// How many tokens it is the sum of.
    pub tokens: usize,
}

impl PromptScore {
    /// Nats per token; `None` of a prompt that has none to score.
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.log_prob / self.tokens as f64)
    }
}
