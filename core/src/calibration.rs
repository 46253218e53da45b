use crate::{RoleRow, numerics::log_sum_exp};

/// The unlabelled prompts that a strategy is fitted to before it starts, see
/// [`FusionStrategy::calibrated`](crate::FusionStrategy::calibrated).
///
/// ```
/// use logitfuse_core::CalibrationSpec;
///
/// // Up to 16 prompts of each expert, and after each the rows of experts and antis.
/// let spec = CalibrationSpec::new("expert", ["expert", "anti"], 16).required();
/// assert!(spec.required);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CalibrationSpec {
    /// The role whose sources bring prompts, each its own.
    pub role: String,
    /// The roles whose rows after these prompts are wanted; the sources of all others stay idle.
    pub rows_of: Vec<String>,
    /// How many prompts of each source are wanted at most.
    pub prompts: usize,
    /// Whether the strategy cannot start without.
    pub required: bool,
}

impl CalibrationSpec {
    /// At most `prompts` prompts of each source of `role`, and the rows of the roles `rows_of` after each; not required.
    pub fn new(role: &str, rows_of: impl IntoIterator<Item = impl Into<String>>, prompts: usize) -> Self {
        let rows_of = rows_of.into_iter().map(Into::into).collect();
        Self { role: role.to_owned(), rows_of, prompts, required: false }
    }

    /// The strategy cannot start without the prompts.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

/// Rows after the calibration prompts of one source: for each prompt, the row at its end under each binding of the roles
/// asked for.
///
/// ```
/// use logitfuse_core::CalibrationRows;
///
/// let mut rows = CalibrationRows::new(2);
/// rows.push(0, 1, &[1.0, 0.0]);
/// assert_eq!(rows.prompts(), 2);
/// assert_eq!(rows.row(0, 1).unwrap().logits(), [1.0, 0.0]);
/// assert!(rows.row(1, 1).is_none());
/// ```
#[derive(Clone, Debug)]
pub struct CalibrationRows {
    /// By prompt.
    of: Vec<Vec<Row>>,
}

#[derive(Clone, Debug)]
struct Row {
    binding: usize,
    logits: Vec<f32>,
    log_normaliser: f64,
}

impl CalibrationRows {
    /// An empty set for this number of prompts.
    pub fn new(prompts: usize) -> Self {
        Self { of: vec![Vec::new(); prompts] }
    }

    /// Adds the row, masked to the shared vocabulary, of one prompt's end under one binding.
    ///
    /// # Panics
    /// If there are not as many prompts.
    pub fn push(&mut self, prompt: usize, binding: usize, logits: &[f32]) {
        self.of[prompt].push(Row { binding, logits: logits.to_vec(), log_normaliser: log_sum_exp(logits) });
    }

    /// How many prompts there were.
    pub fn prompts(&self) -> usize {
        self.of.len()
    }

    /// The row of one prompt's end under one binding; `None` if it was not run.
    pub fn row(&self, prompt: usize, binding: usize) -> Option<RoleRow<'_>> {
        let row = self.of.get(prompt)?.iter().find(|row| row.binding == binding)?;
        Some(RoleRow::new(&row.logits, row.log_normaliser, 0.0))
    }
}
