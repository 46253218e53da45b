//! A fusion rule of one's own: proxy tuning where the expert is sure, the base alone elsewhere.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;

use logitfuse::{
    FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, Pipeline, Result, RoleRow, RoleSpec, SessionInfo,
    StrategyInfo,
};

struct WhereSure {
    info: StrategyInfo,
    threshold: f64,
}

impl FusionStrategy for WhereSure {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, _session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(State { threshold: self.threshold }))
    }
}

#[derive(Clone)]
struct State {
    threshold: f64,
}

/// The probability of the most probable token.
fn top_probability(row: &RoleRow<'_>) -> f64 {
    let top = row.logits().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (f64::from(top) - row.log_normaliser).exp()
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let [base, expert, anti] = [0, 1, 2].map(|role| step.row(role));
        let alpha = if top_probability(expert) > self.threshold { 1.0 } else { 0.0 };
        let logits = base.logits().iter().zip(expert.logits()).zip(anti.logits());
        for (out, ((base, expert), anti)) in out.logits.iter_mut().zip(logits) {
            *out = base + alpha * (expert - anti);
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let models = std::env::args().nth(1).unwrap_or_else(|| "examples/family/models".to_owned());
    let roles = ["base", "expert", "anti"].map(RoleSpec::one);
    let rule = WhereSure { info: StrategyInfo::new("where-sure", roles), threshold: 0.5 };
    let pipeline = Pipeline::builder()
        .model("base", format!("{models}/L"))
        .model("expert", format!("{models}/S-qa"))
        .model("anti", format!("{models}/S"))
        .custom_strategy(Arc::new(rule))
        .stop("\n")
        .build()?;
    println!("{}", pipeline.generate("Question: Which river does Gulwick stand on?\nAnswer:")?.text);
    Ok(())
}
