//! Whether the scores that `[gap]` and `[[expect]]` read will be there: a run takes hours, and a mistyped metric none.

use logitfuse_config::Experiment;
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_rundir::CorpusScores;
use logitfuse_text::did_you_mean;

use crate::Task;

/// Checks the metrics that an experiment reads against those of its tasks, each named once.
pub(crate) fn check(experiment: &Experiment, tasks: &[&Task]) -> Result<()> {
    if let Some(gap) = experiment.gap() {
        for task in tasks {
            if let Some(metric) = gap.metric.of(task.name()) {
                has(&format!("gap.metric: task `{}`", task.name()), metric, &task.scores())?;
                let name = metric.split(',').next().unwrap_or(metric);
                if CorpusScores::read(name, &[])?.is_some() {
                    let what = format!("gap.metric: `{metric}` is a score of all items together, which has no gap");
                    return Err(Error::new(ErrorKind::InvalidConfig, what)
                        .with_help("gaps are made of scores of single items, such as exact_match or acc"));
                }
            }
        }
    }
    for (nth, expect) in experiment.expect().iter().enumerate() {
        let concerned = tasks.iter().filter(|task| expect.task.as_deref().is_none_or(|name| name == task.name()));
        let all: Vec<String> = concerned.flat_map(|task| task.scores()).collect();
        has(&format!("expect[{nth}].metric: the run"), &expect.metric, &all)?;
    }
    Ok(())
}

fn has(what: &str, metric: &str, known: &[String]) -> Result<()> {
    if known.is_empty() || known.iter().any(|one| one == metric) {
        return Ok(());
    }
    let near = did_you_mean(metric, known.iter().map(String::as_str));
    let near = if near.is_empty() { near } else { near + " " };
    let mut listed: Vec<&str> = known.iter().map(String::as_str).collect();
    listed.sort_unstable();
    listed.dedup();
    Err(Error::new(ErrorKind::InvalidConfig, format!("{what} has no `{metric}`"))
        .with_help(format!("{near}there are {}", listed.join("; "))))
}

#[cfg(test)]
mod tests {
    use logitfuse_config::Overrides;

    use super::*;

    fn checked(more: &str) -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let data = folder.path().join("d.jsonl");
        std::fs::write(&data, "{\"prompt\": \"?\", \"gold\": \"!\"}\n").expect("it is writable");
        let text = format!(
            "schema = 1\n[sources.base]\nmodel = 'L'\n[tasks.t]\ndata = '{}'\ntarget = 'gold'\n[variants.a]\n[variants.b]\n\
             run = {{ max_new_tokens = 3 }}\n{more}",
            data.display()
        );
        let experiment = Experiment::from_toml(&text, &Overrides::default())?;
        let task = Task::load("t", &experiment.cells()[0].task_config)?;
        check(&experiment, &[&task])
    }

    #[test]
    fn a_metric_that_no_task_has_is_refused_before_the_run() {
        let gap = |metric: &str| checked(&format!("[gap]\nbase = 'a'\nceiling = 'b'\nmetric = '{metric}'\n"));
        assert!(gap("exact_match,none").is_ok());
        let e = gap("exact_mach,none").expect_err("no task has it");
        assert_eq!(e.to_string(), "gap.metric: task `t` has no `exact_mach,none`");
        assert_eq!(e.help(), Some("did you mean `exact_match,none`? there are exact_match,none"));
        let e = checked("[[expect]]\nvariant = 'a'\nmetric = 'acc'\nat_least = 0.5\n").expect_err("no task has it");
        assert_eq!(e.to_string(), "expect[0].metric: the run has no `acc`");
    }
}
