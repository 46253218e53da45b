//! A run directory, opened for writing.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    Forecast, Manifest, Metrics, Run, SampleRecord, TimingRecord,
    files::{require_plain, unreadable, unwritable, write_atomically, write_json},
    log::Log,
    run::FORECASTS,
};

/// Holds a lock while a process writes; its content is of no interest.
const LOCK: &str = ".lock";

/// A run directory, opened for writing by one process.
///
/// ```
/// use logitfuse_rundir::{Identity, Manifest, RunDir, SCHEMA_VERSION, Scope};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("runs/x");
/// # let identity = Identity { config_sha256: String::new(), logitfuse: "0.1.0".into(), onnxruntime: "1.23".into(), files: vec![] };
/// # let manifest = Manifest { schema_version: SCHEMA_VERSION, identity, scope: Scope::default(), cells: vec![], machine: Default::default() };
/// let run = RunDir::start(&path, "schema = 1\n", &manifest)?;
/// assert!(!run.holds("large/qa/7/0"), "nothing was made yet");
/// let taken = RunDir::start(&path, "schema = 1\n", &manifest).unwrap_err();
/// assert!(taken.to_string().ends_with("another process writes to it"), "{taken}");
/// drop(run);
///
/// // The same run goes on; another one is refused.
/// RunDir::start(&path, "schema = 1\n", &manifest)?;
/// let mut other = manifest.clone();
/// other.identity.onnxruntime = "1.24".into();
/// let e = RunDir::start(&path, "schema = 1\n", &other).unwrap_err();
/// assert!(e.to_string().contains("the version of ONNX Runtime differs (1.23 before, 1.24 now)"), "{e}");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    samples: Log,
    timings: Log,
    done: BTreeSet<String>,
    // Released by the operating system, however the process ends.
    _lock: File,
}

impl RunDir {
    /// Makes the directory, or goes on with the run that it holds.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where it cannot be written or another process writes to it, [`ErrorKind::Incompatible`] where it
    /// holds another run, [`ErrorKind::InvalidData`] for a damaged line.
    pub fn start(path: &Path, resolved: &str, manifest: &Manifest) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| unwritable(path, &e))?;
        let lock = lock(path)?;
        let known = path.join("manifest.json");
        // The manifest is written last: a directory that has one has everything that it speaks of.
        if known.exists() {
            let before = Run::open(path)?;
            let line = before.resolved().ok().and_then(|before| changed_line(&before, resolved));
            before.manifest().check_same(path.display(), manifest, line)?;
        } else {
            refuse_foreign(path)?;
            write_atomically(&path.join("resolved.toml"), resolved.as_bytes())?;
            write_json(&known, manifest)?;
        }
        let Logs { samples, timings, done } = Logs::open(path, usize::MAX)?;
        Ok(Self { path: path.to_owned(), samples, timings, done, _lock: lock })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a sample is there, by its [`key`](SampleRecord::key).
    pub fn holds(&self, key: &str) -> bool {
        self.done.contains(key)
    }

    /// How many samples are there.
    pub fn samples(&self) -> usize {
        self.done.len()
    }

    /// Adds a finished sample. Once this returns, no kill loses it.
    pub fn append(&mut self, sample: &SampleRecord, timing: &TimingRecord) -> Result<()> {
        self.timings.append(timing).and_then(|()| self.samples.append(sample)).map_err(|e| self.so_far(e))?;
        self.done.insert(sample.key());
        Ok(())
    }

    /// Adds what drafts are expected to cost. The last forecast of a variant and task counts.
    pub fn forecast(&self, forecast: &Forecast) -> Result<()> {
        let keep = |_, _: Forecast| Ok(true);
        Log::open(&self.path.join(FORECASTS), keep)?.append(forecast)
    }

    /// Cuts off all samples but the first ones.
    pub(crate) fn keep(&mut self, first: usize) -> Result<()> {
        let Logs { samples, timings, done } = Logs::open(&self.path, first)?;
        (self.samples, self.timings, self.done) = (samples, timings, done);
        Ok(())
    }

    /// Takes `metrics.json` away, if it is there.
    pub(crate) fn remove_metrics(&self) -> Result<()> {
        let file = self.path.join("metrics.json");
        match fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unwritable(&file, &e)),
            _ => Ok(()),
        }
    }

    /// Adds a sample as another directory wrote it, byte by byte.
    pub(crate) fn append_lines(&mut self, key: &str, sample: &[u8], timing: Option<&[u8]>) -> Result<()> {
        timing.map_or(Ok(()), |line| self.timings.append_line(line))?;
        self.samples.append_line(sample)?;
        self.done.insert(key.to_owned());
        Ok(())
    }

    /// Waits until all samples are on the disk: what survives a kill then survives a power cut.
    pub fn sync(&self) -> Result<()> {
        self.samples.sync()?;
        self.timings.sync()
    }

    /// Writes `metrics.json`.
    pub fn write_metrics(&self, metrics: &Metrics) -> Result<()> {
        write_json(&self.path.join("metrics.json"), metrics)
    }

    /// The same directory, to read.
    pub fn reader(&self) -> Result<Run> {
        Run::open(&self.path)
    }

    fn so_far(&self, e: Error) -> Error {
        let kept = format!("{e}; the {} samples before it are safe", self.done.len());
        let help = e.help().unwrap_or_default().to_owned();
        Error::new(e.kind(), kept).with_help(help).with_source(e)
    }
}

/// Both logs, and the samples that they hold.
struct Logs {
    samples: Log,
    timings: Log,
    done: BTreeSet<String>,
}

impl Logs {
    /// Opens them; what lies behind the first `most` samples is cut off.
    fn open(path: &Path, most: usize) -> Result<Self> {
        let mut done = BTreeSet::new();
        let log = path.join("samples.jsonl");
        let samples = Log::open(&log, |number, sample: SampleRecord| {
            if done.len() == most {
                return Ok(false);
            }
            let key = sample.key();
            if done.contains(&key) {
                let message = format!("{}:{number}: sample {key} was there before", log.display());
                return Err(Error::new(ErrorKind::InvalidData, message)
                    .with_help("delete this line and all after it: what they held is made again"));
            }
            done.insert(key);
            Ok(true)
        })?;
        // A sample's times are written before it, so that a kill between the two leaves times too many, never too few.
        let timings = Log::open(&path.join("timings.jsonl"), |_, timing: TimingRecord| Ok(done.contains(&timing.key)))?;
        Ok(Self { samples, timings, done })
    }
}

fn lock(path: &Path) -> Result<File> {
    let at = path.join(LOCK);
    require_plain(&at)?;
    let file = File::options().create(true).truncate(false).write(true).open(&at).map_err(|e| unwritable(&at, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(ErrorKind::Io, format!("{}: another process writes to it", path.display()))
                .with_help("wait for it, or name another directory with `-o`"))
        }
        // Some network file systems have no locks; a run there is its owner's to guard.
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(e)) => Err(unwritable(&at, &e)),
    }
}

/// The first line of a configuration that is not what it was.
fn changed_line(before: &str, now: &str) -> Option<String> {
    let (mut before, mut now) = (before.lines(), now.lines());
    for number in 1.. {
        let (was, is) = (before.next(), now.next());
        let said = |line: Option<&str>| line.map_or("nothing".to_owned(), |line| format!("`{}`", line.trim()));
        match (was, is) {
            (None, None) => return None,
            (was, is) if was == is => {}
            (was, is) => return Some(format!("resolved.toml:{number} says {}, and now {}", said(was), said(is))),
        }
    }
    None
}

/// A directory without a manifest must not hold anything that a run would mistake for its own.
fn refuse_foreign(path: &Path) -> Result<()> {
    let entries = fs::read_dir(path).map_err(|e| unreadable(path, &e))?;
    for entry in entries {
        let name = entry.map_err(|e| unreadable(path, &e))?.file_name();
        // The first two files of a run that was killed before its third.
        let ours = [LOCK, "resolved.toml", ".resolved.toml.new", ".manifest.json.new"];
        if !ours.iter().any(|known| name == *known) {
            let message =
                format!("{}: not a run directory, and not empty: it holds {}", path.display(), name.display());
            return Err(Error::new(ErrorKind::Incompatible, message).with_help("name another directory with `-o`"));
        }
    }
    Ok(())
}
