//! Unlabelled prompts by which a strategy gets to know the sources.

use logitfuse_core::{Error, ErrorKind, Result, StrategyInfo};
use logitfuse_engine::CalibrationPrompts;

use crate::{PipelineOptions, PromptFormatter, samples::read_jsonl};

/// The calibration prompts of an experiment, if its strategy has a use for them. `roles` are pairs of role and source in the
/// order of the fusion's bindings, and `formatters` theirs.
pub(crate) fn prompts(
    options: &PipelineOptions,
    info: &StrategyInfo,
    roles: &[(String, String)],
    formatters: &[PromptFormatter],
) -> Result<Option<Vec<CalibrationPrompts>>> {
    let Some(spec) = &info.calibration else { return Ok(None) };
    let owners: Vec<usize> = (0..roles.len()).filter(|&binding| roles[binding].0 == spec.role).collect();
    let file = |&binding: &usize| options.sources[&roles[binding].1].calibration.as_ref();
    let lacking = owners.iter().find(|binding| file(binding).is_none());
    if let Some(&binding) = lacking {
        if !spec.required && owners.iter().all(|binding| file(binding).is_none()) {
            return Ok(None);
        }
        let (role, source) = &roles[binding];
        let what = format!(
            "sources.{source}.calibration: missing, and strategy `{}` wants unlabelled prompts of every source in role `{role}`",
            info.id
        );
        return Err(Error::new(ErrorKind::InvalidConfig, what)
            .with_help("name a JSONL file with some prompts of the kind that the source is for, one a line"));
    }
    let of_owner = |&binding: &usize| {
        let source = &roles[binding].1;
        let place = format!("sources.{source}.calibration");
        let mut samples = Vec::new();
        if let Some(path) = file(&binding) {
            read_jsonl(path, &mut samples).map_err(|e| e.context(&place))?;
        }
        let mut prompts = Vec::new();
        for (number, sample) in (1..).zip(samples.iter().take(spec.prompts)) {
            // Sources that are not asked need not be able to write these prompts.
            let written = roles.iter().zip(formatters).map(|((role, _), formatter)| {
                if spec.rows_of.contains(role) { formatter.tokens(&sample.fields) } else { Ok(Vec::new()) }
            });
            let written = written.collect::<Result<_>>();
            prompts.push(written.map_err(|e: Error| e.context(format!("{place}: prompt {number}")))?);
        }
        if prompts.is_empty() {
            return Err(Error::new(ErrorKind::InvalidData, format!("{place}: holds no prompt"))
                .with_help("write one JSON object a line, with the fields of a sample"));
        }
        Ok(CalibrationPrompts { binding, prompts })
    };
    owners.iter().map(of_owner).collect::<Result<_>>().map(Some)
}
