use logitfuse_core::{
    FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result, RoleSpec, SessionInfo,
    StrategyInfo,
};

/// No fusion: the base's row as it is. A baseline goes through the very same loop as what it is compared with.
///
/// ```
/// use logitfuse_core::FusionStrategy;
///
/// assert_eq!(logitfuse_engine::BaseOnly::new().info().id, "none");
/// ```
#[derive(Clone, Debug)]
pub struct BaseOnly {
    info: StrategyInfo,
}

#[derive(Clone)]
struct State;

impl BaseOnly {
    /// The strategy `none`, with the one role `base`.
    pub fn new() -> Self {
        let base = RoleSpec::one("base").with_summary("the model that speaks");
        let info = StrategyInfo::new("none", [base]).with_summary("no fusion: the base alone").with_laws([
            Law::Deterministic,
            Law::ShiftInvariant,
            Law::VocabEquivariant,
        ]);
        Self { info }
    }
}

impl Default for BaseOnly {
    fn default() -> Self {
        Self::new()
    }
}

impl FusionStrategy for BaseOnly {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State))
    }

    fn lower(&self, _session: &SessionInfo) -> Result<FusionGraph> {
        let mut graph = FusionGraph::new();
        let base = graph.row(0);
        graph.set_fused(base);
        Ok(graph)
    }
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        Ok(())
    }
}
