use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, PromptReading, Result, RoleSpec, SessionInfo,
    StrategyInfo,
};

/// No fusion: the first source's row as it is, while the rows of all are there to be
/// [observed](crate::Request::observe_rows). What records rows decodes or scores with it.
///
/// ```
/// use logitfuse_core::{FusionStrategy, PromptReading};
/// use logitfuse_engine::Observing;
///
/// assert_eq!(Observing::new(PromptReading::End).info().roles[0].name, Observing::ROLE);
/// ```
#[derive(Clone, Debug)]
pub struct Observing {
    info: StrategyInfo,
}

#[derive(Clone)]
struct State;

impl Observing {
    /// The one role, which every source plays.
    pub const ROLE: &'static str = "observed";

    /// `reading` is how much of every prompt is asked for: as much as by the strategies that the rows are for.
    pub fn new(reading: PromptReading) -> Self {
        Self { info: StrategyInfo::new("observing", [RoleSpec::many(Self::ROLE)]).with_prompt(reading) }
    }
}

impl FusionStrategy for Observing {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State))
    }
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        out.logits.copy_from_slice(step.row(0).logits());
        Ok(())
    }
}
