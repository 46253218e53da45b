//! `logitfuse merge`: the weights of several models become one model.

use std::{path::Path, process::ExitCode};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_merge::{Folder, Merged, Progress, Recipe, merge};
use logitfuse_onnx::ModelFolder;
use serde_json::json;

use crate::{
    args::{Format, Global, MergeArgs},
    output, signal,
};

pub(crate) fn run(global: &Global, args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let recipe = Recipe::read(&args.recipe)?;
    let cancel = signal::cancel_on_interrupt()?;
    let mut bar = PhaseBar { quiet: global.quiet, phase: "", bar: ProgressBar::hidden() };
    let merged = merge(&recipe, &args.output, locate, &mut |progress| {
        if cancel.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
        }
        bar.on(progress);
        Ok(())
    });
    bar.bar.finish_and_clear();
    print(&recipe, &merged?, args)?;
    Ok(ExitCode::SUCCESS)
}

fn locate(path: &Path, variant: Option<&str>) -> Result<Folder> {
    let found = ModelFolder::open(path, variant)?;
    Ok(Folder { root: found.root().to_owned(), onnx: found.onnx().to_owned() })
}

fn print(recipe: &Recipe, merged: &Merged, args: &MergeArgs) -> Result<()> {
    let lost = merged.requantised.as_ref();
    if args.format != Format::Text {
        let requantised = lost.map(|lost| {
            json!({
                "tensors": lost.tensors, "schemes": lost.schemes, "relative_rms": lost.relative_rms, "largest": lost.largest,
                "worst": { "tensor": lost.worst.0, "relative_rms": lost.worst.1 },
            })
        });
        let (onnx, method) = (merged.onnx.display().to_string(), recipe.method.name());
        let value = json!({
            "onnx": onnx, "method": method, "merged": merged.merged, "copied": merged.copied, "requantised": requantised,
        });
        return output::json(&value, args.format == Format::Json);
    }
    let models = recipe.parents().count();
    output::line(&format!(
        "{}: {} of {models} models: {} tensors merged, {} equal in all of them",
        merged.onnx.display(),
        recipe.method.name(),
        merged.merged,
        merged.copied
    ))?;
    if let Some(lost) = lost {
        let schemes: Vec<&str> = lost.schemes.keys().map(String::as_str).collect();
        output::line(&format!(
            "requantised: {} tensors ({}); relative error {:.2e} (root mean square), at most {:.2e} in one (`{}`); largest {:.2e}",
            lost.tensors,
            schemes.join("; "),
            lost.relative_rms,
            lost.worst.1,
            lost.worst.0,
            lost.largest
        ))?;
    }
    Ok(())
}

/// A bar for each phase on a terminal; elsewhere notes alone.
struct PhaseBar {
    quiet: bool,
    phase: &'static str,
    bar: ProgressBar,
}

impl PhaseBar {
    fn on(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Note(text) => self.bar.suspend(|| output::say(self.quiet, &format!("note: {text}"))),
            Progress::Bytes { phase, done, of } => {
                if self.phase != phase {
                    self.bar.finish_and_clear();
                    self.phase = phase;
                    self.bar = self.new_bar(of);
                }
                self.bar.set_position(done);
            }
            _ => {}
        }
    }

    fn new_bar(&self, of: u64) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let template = "{prefix} {bar:30} {bytes}/{total_bytes}, {elapsed} gone, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr());
        bar.with_style(style).with_prefix(self.phase)
    }
}
