//! Settings that are sound and change nothing.

use logitfuse_core::StrategyInfo;

use crate::PipelineOptions;

/// One line for each, beginning with the option.
pub(crate) fn without_effect(
    options: &PipelineOptions,
    info: &StrategyInfo,
    roles: &[(String, String)],
) -> Vec<String> {
    let mut lines = Vec::new();
    let run = &options.run;
    if run.temperature == 0.0 {
        for (name, set) in [("top_k", run.top_k > 0), ("top_p", run.top_p < 1.0), ("min_p", run.min_p > 0.0)] {
            if set {
                lines.push(format!("run.{name} has no effect: at temperature 0 the most probable token is taken"));
            }
        }
    }
    for (name, source) in &options.sources {
        let key = |key: &str| format!("sources.{name}.{key} has no effect");
        let asked = info
            .calibration
            .as_ref()
            .is_some_and(|spec| roles.iter().any(|(role, player)| *role == spec.role && player == name));
        if source.calibration.is_some() && !asked {
            lines.push(format!("{}: strategy `{}` takes no calibration prompts of it", key("calibration"), info.id));
        }
        if source.date.is_some() && source.chat_template == "none" {
            lines.push(format!("{}: only chat templates ask for a date", key("date")));
        }
    }
    lines
}
