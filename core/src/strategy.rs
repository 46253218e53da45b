use std::sync::Arc;

use ndarray::ArrayView1;

use crate::{
    CalibrationRows, CalibrationSpec, Error, ErrorKind, FusionGraph, Law, PromptReading, PromptScore, Result,
    SharedVocabulary, TokenId,
};

/// How many sources may take a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// At least this many.
    pub min: usize,
    /// At most this many; `None` is no limit.
    pub max: Option<usize>,
}

/// A role of a strategy: the part that a source plays in the fusion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoleSpec {
    /// `base`, `expert`, `anti`, …
    pub name: String,
    /// Other names that users may give for the role, such as `anti_expert` for `anti`; everything else uses
    /// [`name`](Self::name).
    pub aliases: Vec<String>,
    /// How many sources may take it.
    pub arity: Arity,
    /// One line for `--help` and error messages.
    pub summary: String,
}

impl RoleSpec {
    /// A role that this many sources take.
    pub fn new(name: &str, arity: Arity) -> Self {
        Self { name: name.to_owned(), aliases: Vec::new(), arity, summary: String::new() }
    }

    /// A role that exactly one source takes.
    pub fn one(name: &str) -> Self {
        Self::new(name, Arity { min: 1, max: Some(1) })
    }

    /// A role that one source takes or none.
    pub fn optional(name: &str) -> Self {
        Self::new(name, Arity { min: 0, max: Some(1) })
    }

    /// A role that one source takes, or several.
    pub fn many(name: &str) -> Self {
        Self::new(name, Arity { min: 1, max: None })
    }

    /// Adds another name that users may give for the role.
    #[must_use]
    pub fn with_alias(mut self, alias: &str) -> Self {
        self.aliases.push(alias.to_owned());
        self
    }

    /// Whether `name` is the role's name or one of its aliases.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Adds the line that explains the role.
    #[must_use]
    pub fn with_summary(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.summary);
        self
    }
}

/// The name and unit of a number that a strategy reports at every step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceColumn {
    /// `alpha`, `kl_fused_base`, …
    pub name: String,
    /// `nats`, `1` for a plain ratio, …
    pub unit: String,
}

impl TraceColumn {
    /// A column with its unit.
    pub fn new(name: &str, unit: &str) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned() }
    }
}

/// The description of a strategy: roles, parameters, laws and trace columns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StrategyInfo {
    /// The kebab-case id that a TOML names.
    pub id: String,
    /// One line on what it is good for.
    pub summary: String,
    /// What it computes, as one or a few lines of plain text.
    pub equation: String,
    /// Where the rule comes from: papers with their equation or section.
    pub reference: String,
    /// The roles that it fuses, in the order in which its steps carry their rows.
    pub roles: Vec<RoleSpec>,
    /// JSON Schema of its parameters, as text.
    pub params_schema: String,
    /// Algebraic laws that it claims, which property tests check.
    pub laws: Vec<Law>,
    /// What [`FusedRow::trace`] holds, in order.
    pub trace: Vec<TraceColumn>,
    /// The lead role: the role of one source whose row alone may be enough for a step, see [`FusionState::early_exit`]; the
    /// other sources then run only when they are needed. `None` if every step needs every row.
    pub lead_role: Option<String>,
    /// How much of every prompt it reads.
    pub prompt: PromptReading,
    /// The calibration prompts that it is fitted to before it starts; `None` if it takes none.
    pub calibration: Option<CalibrationSpec>,
}

impl StrategyInfo {
    /// A strategy with these roles, no parameters, no trace.
    pub fn new(id: &str, roles: impl IntoIterator<Item = RoleSpec>) -> Self {
        Self {
            id: id.to_owned(),
            summary: String::new(),
            equation: String::new(),
            reference: String::new(),
            roles: roles.into_iter().collect(),
            params_schema: r#"{"type":"object","additionalProperties":false}"#.to_owned(),
            laws: Vec::new(),
            trace: Vec::new(),
            lead_role: None,
            prompt: PromptReading::End,
            calibration: None,
        }
    }

    /// The role with this name or alias.
    ///
    /// ```
    /// use logitfuse_core::{RoleSpec, StrategyInfo};
    ///
    /// let roles = [RoleSpec::one("base"), RoleSpec::one("anti").with_alias("anti_expert")];
    /// let info = StrategyInfo::new("contrastive", roles);
    /// assert_eq!(info.role("anti_expert").unwrap().name, "anti");
    /// assert_eq!(info.role("expert"), None);
    /// ```
    pub fn role(&self, name: &str) -> Option<&RoleSpec> {
        // A name goes before an alias of another role.
        self.roles.iter().find(|role| role.name == name).or_else(|| self.roles.iter().find(|role| role.is_named(name)))
    }

    /// Adds the summary line.
    #[must_use]
    pub fn with_summary(mut self, summary: &str) -> Self {
        summary.clone_into(&mut self.summary);
        self
    }

    /// Sets what it computes.
    #[must_use]
    pub fn with_equation(mut self, equation: &str) -> Self {
        equation.clone_into(&mut self.equation);
        self
    }

    /// Sets where the rule comes from.
    #[must_use]
    pub fn with_reference(mut self, reference: &str) -> Self {
        reference.clone_into(&mut self.reference);
        self
    }

    /// Sets the JSON Schema of the parameters.
    #[must_use]
    pub fn with_params_schema(mut self, schema: impl Into<String>) -> Self {
        self.params_schema = schema.into();
        self
    }

    /// Adds laws.
    #[must_use]
    pub fn with_laws(mut self, laws: impl IntoIterator<Item = Law>) -> Self {
        self.laws.extend(laws);
        self
    }

    /// Sets the lead role, whose row alone may be enough for a step.
    #[must_use]
    pub fn with_lead_role(mut self, role: &str) -> Self {
        self.lead_role = Some(role.to_owned());
        self
    }

    /// Sets how much of every prompt it reads.
    #[must_use]
    pub fn with_prompt(mut self, reading: PromptReading) -> Self {
        self.prompt = reading;
        self
    }

    /// Sets the calibration prompts that it takes.
    #[must_use]
    pub fn with_calibration(mut self, spec: CalibrationSpec) -> Self {
        self.calibration = Some(spec);
        self
    }

    /// Adds a trace column.
    #[must_use]
    pub fn with_trace(mut self, name: &str, unit: &str) -> Self {
        self.trace.push(TraceColumn::new(name, unit));
        self
    }
}

/// One row of every step: which role it plays and which source yields it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleBinding {
    /// The role's name, as in [`RoleSpec::name`].
    pub role: String,
    /// The source's name.
    pub source: String,
}

/// The rows and the vocabulary of a run, fixed before its first step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// One entry per row of a step, in the same order: grouped by role, in the order of [`StrategyInfo::roles`].
    pub bindings: Vec<RoleBinding>,
    /// The ids that may be emitted; `vocabulary.width()` is the length of every row.
    pub vocabulary: SharedVocabulary,
}

impl SessionInfo {
    /// A session with these rows and this vocabulary.
    pub fn new(bindings: impl IntoIterator<Item = RoleBinding>, vocabulary: SharedVocabulary) -> Self {
        Self { bindings: bindings.into_iter().collect(), vocabulary }
    }

    /// The rows that play `role`, as indices for [`FusionStep::row`].
    pub fn rows_of<'a>(&'a self, role: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.bindings.iter().enumerate().filter(move |(_, b)| b.role == role).map(|(i, _)| i)
    }

    /// The first row that plays `role`.
    pub fn row_of(&self, role: &str) -> Option<usize> {
        self.rows_of(role).next()
    }
}

/// One role's distribution at one position.
#[derive(Clone, Copy, Debug)]
pub struct RoleRow<'a> {
    logits: &'a [f32],
    /// `log Σ exp(logits)` in nats, so that `logits[i] - log_normaliser` is the log-probability of token `i`.
    pub log_normaliser: f64,
    /// Log-probability, in nats, of the committed tokens under this role's source, prompt excluded.
    pub sequence_log_prob: f64,
}

impl<'a> RoleRow<'a> {
    /// A row with its log-normaliser. The logits hold finite values or `-inf`, one finite value at least.
    pub fn new(logits: &'a [f32], log_normaliser: f64, sequence_log_prob: f64) -> Self {
        Self { logits, log_normaliser, sequence_log_prob }
    }

    /// The logits, contiguous, one per token id.
    pub fn logits(&self) -> &'a [f32] {
        self.logits
    }

    /// The logits as an `ndarray` view.
    pub fn view(&self) -> ArrayView1<'a, f32> {
        ArrayView1::from(self.logits)
    }
}

/// The input of a strategy at one position.
#[derive(Clone, Copy, Debug)]
pub struct FusionStep<'a> {
    rows: &'a [RoleRow<'a>],
    /// The tokens generated so far, prompt excluded (prompts may differ per role).
    pub committed: &'a [TokenId],
}

impl<'a> FusionStep<'a> {
    /// A step over these rows, in the order of [`SessionInfo::bindings`].
    pub fn new(rows: &'a [RoleRow<'a>], committed: &'a [TokenId]) -> Self {
        Self { rows, committed }
    }

    /// The row at `index` of [`SessionInfo::bindings`].
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &RoleRow<'a> {
        &self.rows[index]
    }

    /// All rows.
    pub fn rows(&self) -> &'a [RoleRow<'a>] {
        self.rows
    }
}

/// The output of a strategy at one position.
#[derive(Debug)]
pub struct FusedRow<'a> {
    /// The fused logits, unnormalised; every entry must be written. Finite or `-inf`, one finite entry at least.
    /// Never aliases an input row.
    pub logits: &'a mut [f32],
    /// One value per [`StrategyInfo::trace`] column, preset to NaN, which means "not available at this step". Empty
    /// when no trace is recorded, which spares its cost. The logits must not depend on it.
    pub trace: &'a mut [f64],
}

/// A rule that turns one row per role into one fused row. Immutable and shared between threads; what varies with the
/// sequence is in the [`FusionState`] that [`start`](Self::start) makes.
pub trait FusionStrategy: Send + Sync {
    /// Roles, parameters, claimed laws, trace columns.
    fn info(&self) -> &StrategyInfo;

    /// A fresh state for one sequence.
    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>>;

    /// The same strategy, fitted to its sources: called once, before the first [`start`](Self::start), where
    /// [`StrategyInfo::calibration`] asks for it and there are prompts. `rows_after` runs the prompts that one binding of
    /// [`CalibrationSpec::role`] brings, named by its place in [`SessionInfo::bindings`], and gives the sources' rows at
    /// their ends. The fitted strategy has the same roles; its trace may have more columns.
    ///
    /// # Errors
    /// Those of `rows_after`, and prompts that the strategy cannot be fitted to. By default, that there is nothing to fit.
    fn calibrated(
        &self,
        session: &SessionInfo,
        rows_after: &mut dyn FnMut(usize) -> Result<CalibrationRows>,
    ) -> Result<Arc<dyn FusionStrategy>> {
        let _ = (session, rows_after);
        let what = format!("strategy `{}` takes no calibration prompts", self.info().id);
        Err(Error::new(ErrorKind::InvalidConfig, what).with_help("leave `calibration` out of the sources"))
    }

    /// The rule as a computation on arrays, which can be written into a file that other runtimes serve. For every step and
    /// the defaults of its parameters, the graph's row has the probabilities that `fuse` gives, up to rounding; columns of
    /// the trace that it computes have the names of [`StrategyInfo::trace`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the reason, where the rule is no such computation: because it remembers earlier
    /// tokens, sorts the vocabulary, or is the code of a plugin. By default, that it has not been written as one.
    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        let _ = session;
        let what = format!("strategy `{}` is not written as a graph", self.info().id);
        Err(Error::new(ErrorKind::Unsupported, what)
            .with_help("write `FusionStrategy::lower` for it, or use a built-in strategy"))
    }
}

/// A strategy's state for one sequence, used by one thread at a time.
///
/// `fuse` computes, `commit` updates, `rollback` undoes, `fork` copies: that split lets the engine draft and verify, search
/// and test. A rule without memory implements [`Memoryless`](crate::Memoryless) instead, which is `fuse` alone.
pub trait FusionState: Send {
    /// The rows of a position within the prompt, and the token that follows there. Called for one position after the other
    /// before [`begin`](Self::begin), if the strategy asks for [`PromptReading::Rows`]. Positions whose next token may not
    /// be generated are left out.
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        let _ = (step, next);
        Ok(())
    }

    /// The end of the prompt: `step` holds the rows of the first position to generate. Called once, before anything is fused
    /// or committed, also where this strategy does not act at that position; no rollback undoes what a state keeps from here. `prompt` has one
    /// entry per row where the strategy asks for [`PromptReading::LogProbs`] or more, and is empty else.
    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        let _ = (step, prompt);
        Ok(())
    }

    /// Fuses the rows of the next position into `out`. Has no committed side effect: called again with the same step
    /// before a commit, it writes the same bits.
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()>;

    /// Tries to fuse from the row of the [lead role](StrategyInfo::lead_role), before any other source has run. `true` means that
    /// this step needs no other row and that `out` holds what `fuse` would have written; `false` that it needs all rows, and
    /// `out` is ignored. Like `fuse` it has no committed side effect.
    ///
    /// Sources that were idle during early exits catch up, several tokens at once, when a step needs them.
    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        let _ = (lead, committed, out);
        Ok(false)
    }

    /// These tokens are final now; the state may adapt, using what the last `fuse` since the last `commit` or `rollback`
    /// saw. Without one, the tokens were not chosen from a row of this state: a gate was closed, or the text was given.
    fn commit(&mut self, tokens: &[TokenId]) -> Result<()>;

    /// Undoes the last `n` committed tokens, and forgets a `fuse` that no `commit` followed: with `n` 0, only that.
    fn rollback(&mut self, n: usize) -> Result<()>;

    /// An independent copy: equal inputs give equal outputs from here on.
    fn fork(&self) -> Result<Box<dyn FusionState>>;

    /// How many rows, since this state or the one that it was forked from was made, are not the strategy's: it failed, and the
    /// base's row took the place of its own.
    fn fallbacks(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_by_its_name_before_another_ones_alias() {
        let roles = [RoleSpec::one("anti").with_alias("anti_expert").with_alias("base"), RoleSpec::many("base")];
        let info = StrategyInfo::new("test", roles);
        let found = |name| info.role(name).map(|role| role.name.as_str());
        assert_eq!(found("anti"), Some("anti"));
        assert_eq!(found("anti_expert"), Some("anti"));
        assert_eq!(found("base"), Some("base"));
        assert_eq!(found("Anti"), None);
    }
}
