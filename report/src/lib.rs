//! A run directory as one HTML page and a set of figures.
//!
//! # Why this crate exists
//!
//! A table of scores alone is hard to judge. A reader wants the interval beside the value, the base and the ceiling beside
//! the variant, the sweep around the chosen point, and the tokens themselves: where the base's top token was kept, where an
//! expert's was taken, and how strong the fusion was. All of that is in the files of a run; this crate draws it without a
//! model, a network or an engine, so that a newer version can redraw the report of an old run.
//!
//! The page is one self-contained file that loads nothing, whatever a sample contains: every string of a run is escaped by
//! the template engine, and a content security policy, which knows the page's own script and style sheet by their hashes and
//! allows no other, is the second barrier. Plots are SVG drawn in Rust, once for a wide window and once for a phone, so tables
//! and figures are there without scripts; a short script makes tokens answer to pointer and keyboard.
//!
//! # Example
//!
//! ```
//! use logitfuse_report::Report;
//! # use logitfuse_rundir::{Identity, Manifest, Metrics, MetricRecord, SCHEMA_VERSION, Scope};
//! # let folder = tempfile::tempdir().unwrap();
//! # let directory = folder.path();
//! # let identity = Identity { config_sha256: String::new(), logitfuse: "0.1.0".into(), onnxruntime: "1.23.0".into(), files: vec![] };
//! # let manifest = Manifest { schema_version: SCHEMA_VERSION, identity, scope: Scope::default(), cells: vec![], machine: Default::default() };
//! # let record = |variant: &str, value: f64| MetricRecord {
//! #     variant: variant.into(), task: "qa".into(), metric: "exact_match".into(), filter: "none".into(), n: 100, value: Some(value),
//! #     stderr: None, interval: Some([value - 0.05, value + 0.05]), interval_method: "Wilson".into(), higher_is_better: true,
//! # };
//! # let metrics = Metrics { schema_version: SCHEMA_VERSION, identity_sha256: String::new(), complete: true, limit: None, metrics: vec![record("large", 0.4), record("dynamic", 0.9)], gaps: vec![], failures: vec![] };
//! # std::fs::write(directory.join("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
//! # std::fs::write(directory.join("metrics.json"), serde_json::to_string(&metrics).unwrap()).unwrap();
//! # std::fs::write(directory.join("resolved.toml"), "schema = 1\n").unwrap();
//! # std::fs::write(directory.join("samples.jsonl"), "").unwrap();
//!
//! // `directory` is what `logitfuse run` left: here, two variants of one task and not a single trace.
//! let report = Report::of(directory)?;
//! assert!(report.html.contains("<strong>dynamic</strong> reaches <strong>0.900</strong> on qa."));
//! assert_eq!(report.figures[0].0, "scores");
//! let page = report.write(directory)?;
//! assert!(page.ends_with("report.html") && directory.join("figures/scores.svg").exists());
//! # Ok::<(), logitfuse_core::Error>(())
//! ```
//!
//! # What is on the page
//!
//! | section | from | shows |
//! |---|---|---|
//! | verdict | `metrics.json` | the best candidate in a sentence, beside base and ceiling; stamps on limited and incomplete runs |
//! | results | `metrics.json` | variants by tasks with 95 % intervals; every metric and filter folded away |
//! | gap closed | `metrics.json` | (variant − base) / (ceiling − base), and the ratio that papers print, labelled so |
//! | sweeps | `metrics.json` | score against each numeric parameter that variants' names carry: `static[alpha=0.5]` |
//! | what the fusion did | traces | every trace column over position (median, middle half) and over tokens |
//! | token by token | traces | ribbons coloured by α, agreement or winning source; each source's top tokens |
//! | right where others are wrong | samples | counts by who is right alone, and the items |
//! | time | `timings.jsonl` | milliseconds of a token by source, fusing, sampling, as a waterfall |
//! | manifest | `manifest.json` | versions, hashes, machine, `resolved.toml` |
//!
//! A section without data is left out. The *base* and the *ceiling* are those of the experiment's `[gap]`; a variant is an
//! expert *alone* if its traces have one source, and that source plays a role other than `base` and `anti` in the fused
//! variant. Right means a score of one half at least, on metrics between 0 and 1.
//!
//! # Figures
//!
//! `figures/` holds each plot as SVG, light on white, without scripts or fonts of its own, and with the feature `png` as PNG
//! at twice the size, drawn with `DejaVu Sans` so that the pixels are the same on every machine: `scores`, `gap`, `sweep`, `position-COLUMN`, `distribution-COLUMN`, `time`.
//!
//! # Cost
//!
//! A run is read once and kept in memory, of its traces as much as about 250 MB hold, every cell its share; what is left out is said on
//! the page. More than 512 MiB of texts, logs of more than 4 GiB and a table of more than 100 000 scores are refused. The page holds at most 6 000 traced tokens and 48 trace columns.

#![forbid(unsafe_code)]

mod budget;
mod columns;
mod data;
mod figure;
mod number;
mod outcomes;
mod outline;
mod page;
mod palette;
#[cfg(feature = "png")]
mod png;
#[cfg(not(feature = "png"))]
mod png {
    pub(crate) fn rasterise(_svg: &str) -> crate::Result<Vec<u8>> {
        Err(crate::no_png())
    }
}
mod quantile;
mod ribbon;
mod text;
mod time;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{columns::Columns, data::Data, figure::Figures, outline::Outline};

/// The report of a run directory, in memory.
#[non_exhaustive]
pub struct Report {
    /// `report.html`.
    pub html: String,
    /// The figures as SVG, by the stems of their file names.
    pub figures: Vec<(String, String)>,
}

/// A file format of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FigureFormat {
    /// Vector graphics: in every build.
    Svg,
    /// Pixels, for slides and documents that take no SVG: needs the feature `png`.
    Png,
}

impl FigureFormat {
    /// The formats that this build can write.
    pub const AVAILABLE: &[Self] = if cfg!(feature = "png") { &[Self::Svg, Self::Png] } else { &[Self::Svg] };
}

impl Report {
    /// Reads a finished run and draws it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no run or it is not finished, [`ErrorKind::InvalidData`] for a damaged file.
    pub fn of(dir: &Path) -> Result<Self> {
        let data = Data::read(dir)?;
        let outline = Outline::of(&data.metrics);
        let columns = Columns::of(&data);
        let costs = time::costs(&data, &outline);
        let figures = Figures::of(&outline, &columns, &outline.representatives(), &costs);
        Ok(Self {
            html: page::document(&data, &outline, &columns, &costs, &figures),
            figures: figures.all().map(|figure| (figure.name.clone(), figure.standalone())).collect(),
        })
    }

    /// Writes `report.html` and `figures/` into the directory, the figures in every format that this build has; returns the
    /// page's path.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the directory cannot be written.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        self.write_as(dir, FigureFormat::AVAILABLE)
    }

    /// The same, with the figures in certain formats.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the directory cannot be written, [`ErrorKind::Unsupported`] for a format that this build does
    /// not have.
    pub fn write_as(&self, dir: &Path, formats: &[FigureFormat]) -> Result<PathBuf> {
        if formats.iter().any(|format| !FigureFormat::AVAILABLE.contains(format)) {
            return Err(no_png());
        }
        let folder = dir.join("figures");
        if folder.is_symlink() {
            let message = format!("{}: is a link, and nothing is written through links", folder.display());
            return Err(
                Error::new(ErrorKind::InvalidData, message).with_help("take it away; the figures are made again")
            );
        }
        fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, e))?;
        for (name, svg) in &self.figures {
            for format in formats {
                match format {
                    FigureFormat::Svg => save(&folder.join(format!("{name}.svg")), svg.as_bytes())?,
                    FigureFormat::Png => save(&folder.join(format!("{name}.png")), &png::rasterise(svg)?)?,
                }
            }
        }
        let page = dir.join("report.html");
        save(&page, self.html.as_bytes())?;
        Ok(page)
    }
}

/// Reads a finished run directory and writes its page and figures into it; returns the page's path. The output depends on
/// the directory's other files alone: the same files give the same bytes.
///
/// # Errors
/// Those of [`Report::of`] and [`Report::write`].
pub fn write(dir: &Path) -> Result<PathBuf> {
    Report::of(dir)?.write(dir)
}

/// What a build without the feature `png` answers.
fn no_png() -> Error {
    Error::new(ErrorKind::Unsupported, "figures as PNG: this build was made without them").with_help(
        "`cargo install --path cli --features png` makes a `logitfuse` with them; the page as HTML and every figure as SVG are \
         always there",
    )
}

/// Writes a file under its name when it is complete. A symbolic link at that name is replaced, not followed.
fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let half = path.with_file_name(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        match fs::remove_file(&half) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::OpenOptions::new().write(true).create_new(true).open(&half)?.write_all(bytes)?;
        fs::rename(&half, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&half);
        unwritable(path, e)
    })
}

fn unwritable(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{}: cannot be written: {e}", path.display()))
        .with_help("make room or give write permission; the run's own files are untouched")
        .with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always tested, though only a build without PNG says it.
    #[test]
    fn a_build_without_png_names_the_command_that_gives_it() {
        let error = no_png();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let help = error.help().unwrap_or_default();
        assert!(help.contains("`cargo install --path cli --features png`") && help.contains("SVG"), "{help}");
    }
}
