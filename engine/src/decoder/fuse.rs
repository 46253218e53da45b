use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, Result, RoleRow, TokenId, numerics,
};

/// The buffers of fusing, used again at every step.
pub(super) struct FusionBuffers {
    pub(super) row: Vec<f32>,
    /// As many as the strategy has columns, or none if the request does not ask.
    pub(super) trace: Vec<f64>,
    /// Whether the row is the base's, because the strategy failed.
    pub(super) fell_back: bool,
}

impl FusionBuffers {
    pub(super) fn new(width: usize) -> Self {
        Self { row: vec![0.0; width], trace: Vec::new(), fell_back: false }
    }

    /// Fuses into `self.row` and `self.trace`; returns the fused row's log-normaliser, which proves that it is a
    /// distribution.
    pub(super) fn fuse(
        &mut self,
        strategy: &dyn FusionStrategy,
        state: &mut dyn FusionState,
        rows: &[RoleRow<'_>],
        committed: &[TokenId],
        trace: bool,
    ) -> Result<f64> {
        let before = state.fallbacks();
        state.fuse(&FusionStep::new(rows, committed), &mut self.blank(strategy, trace))?;
        self.fell_back = state.fallbacks() > before;
        self.normalise(strategy, committed)
    }

    /// The same from the lead role's row alone; `None` if that does not decide the step.
    pub(super) fn early_exit(
        &mut self,
        strategy: &dyn FusionStrategy,
        state: &mut dyn FusionState,
        lead: &RoleRow<'_>,
        committed: &[TokenId],
        trace: bool,
    ) -> Result<Option<f64>> {
        self.fell_back = false;
        let exits = state.early_exit(lead, committed, &mut self.blank(strategy, trace))?;
        exits.then(|| self.normalise(strategy, committed)).transpose()
    }

    fn blank(&mut self, strategy: &dyn FusionStrategy, trace: bool) -> FusedRow<'_> {
        self.trace.clear();
        self.trace.resize(if trace { strategy.info().trace.len() } else { 0 }, f64::NAN);
        FusedRow { logits: &mut self.row, trace: &mut self.trace }
    }

    fn normalise(&self, strategy: &dyn FusionStrategy, committed: &[TokenId]) -> Result<f64> {
        let log_normaliser = numerics::log_sum_exp(&self.row);
        if log_normaliser.is_finite() {
            return Ok(log_normaliser);
        }
        let cause =
            numerics::check_row(&self.row).err().map_or_else(|| "its logits overflow".to_owned(), |e| e.to_string());
        let (id, position) = (&strategy.info().id, committed.len());
        let what = format!("strategy `{id}` wrote a row that is no distribution at token {position}: {cause}");
        Err(Error::new(ErrorKind::Numeric, what))
    }
}
