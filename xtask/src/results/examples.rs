//! Single items: those that fusion alone answers, and whether the reference in Python agrees.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{
    single::STATIC,
    study::{Results, TASKS},
};

const EXAMPLES: &str = "
The first item of a task that `dynamic-kl` answers in full, and whose answer neither the base nor the expert gives, in whatever words:
";

/// Two programs that share no line but the weights.
pub(super) fn agreement(results: &Results) -> Result<String> {
    let mut cells = Vec::new();
    for (ours, theirs) in
        [("large", "L"), ("expert", "S_t"), (STATIC[1], "static 1"), ("dynamic", "dynamic"), ("chosen", "selected")]
    {
        let (mut same, mut all) = (0, 0);
        for task in TASKS {
            let (ours, theirs) = (results.single.get(ours, task)?, results.reference().get(theirs, task)?);
            all += ours.scores.len();
            same += ours.scores.iter().zip(&theirs.scores).filter(|(a, b)| (*a - *b).abs() < 1e-3).count();
        }
        cells.push(format!("{ours} {same} of {all}"));
    }
    Ok(format!(
        "\n## A second opinion\n\nThe reference in Python computes in PyTorch what `logitfuse` computes on ONNX Runtime, from the same weights. Items with the same score: {}.\n",
        cells.join("; ")
    ))
}

pub(super) fn examples(results: &Results) -> Result<String> {
    let mut text = format!("\n## Right where base and expert are wrong\n{EXAMPLES}");
    for task in ["qa", "math", "sum"] {
        let [base, expert, fused] = ["large", "expert", "dynamic"].map(|system| results.single.get(system, task));
        let (base, expert, fused) = (base?, expert?, fused?);
        let right = |n: &usize| {
            fused.scores[*n] > 0.999 && [base, expert].iter().all(|other| !gives(&other.texts[*n], &fused.targets[*n]))
        };
        let found: Vec<usize> = (0..fused.ids.len()).filter(right).collect();
        let first = *found.first().with_context(|| format!("{task}: no item is right under fusion alone"))?;
        let _ = write!(
            text,
            "\n`{}`, one of {} such items of {}:\n\n```\n{}\n",
            fused.ids[first],
            found.len(),
            fused.ids.len(),
            fused.prompts[first]
        );
        for (label, answers) in [("base  ", base), ("expert", expert), ("fused ", fused)] {
            let _ = writeln!(text, "  {label}  {}", answers.texts[first]);
        }
        text.push_str("```\n");
    }
    Ok(text)
}

/// Whether a text holds the answer at all, as a word or as a whole line.
fn gives(text: &str, target: &str) -> bool {
    format!(" {} ", text.replace(|c: char| !c.is_alphanumeric(), " "))
        .contains(&format!(" {} ", target.replace(|c: char| !c.is_alphanumeric(), " ").trim()))
}
