//! What the numbers were measured on: they mean nothing without it. Linux tells; elsewhere there are gaps.

use std::{fs, path::Path, process::Command, time::Duration};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    load_before: String,
    load_after: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Versions {
    logitfuse: &'static str,
    onnx_runtime: String,
    onnx_runtime_genai: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    transformers: Option<String>,
}

impl Machine {
    pub(crate) fn now() -> Self {
        Self { cpu: cpu(), cores: cores(), load_before: load(), load_after: None }
    }

    pub(crate) fn finished(&mut self) {
        self.load_after = Some(load());
    }

    pub(crate) fn line(&self) -> String {
        let after = self.load_after.as_deref().unwrap_or("?");
        format!("{}, {} cores, load average {} before and {after} after", self.cpu, self.cores, self.load_before)
    }
}

impl Versions {
    /// Asks the Python whose packages the benchmark compares with.
    pub(crate) fn of(onnx_runtime: &str, python: &Path, with_transformers: bool) -> Result<Self> {
        let onnx_runtime_genai =
            ask(python, "import onnxruntime_genai as g; print(g.__version__)", "onnxruntime-genai")?;
        let transformers =
            "import torch, transformers; print(f'{transformers.__version__} on PyTorch {torch.__version__}')";
        let transformers = with_transformers.then(|| ask(python, transformers, "transformers")).transpose()?;
        Ok(Self {
            logitfuse: env!("CARGO_PKG_VERSION"),
            onnx_runtime: onnx_runtime.to_owned(),
            onnx_runtime_genai,
            transformers,
        })
    }

    pub(crate) fn line(&self) -> String {
        let Self { logitfuse, onnx_runtime, onnx_runtime_genai, transformers } = self;
        let transformers =
            transformers.as_ref().map_or_else(String::new, |version| format!(", transformers {version}"));
        format!(
            "logitfuse {logitfuse}, ONNX Runtime {onnx_runtime}, onnxruntime-genai {onnx_runtime_genai}{transformers}"
        )
    }
}

fn ask(python: &Path, program: &str, package: &str) -> Result<String> {
    let shown = python.display();
    let asked = Command::new(python).args(["-c", program]).output().or_err(ErrorKind::Io, &shown)?;
    if !asked.status.success() {
        return Err(Error::new(ErrorKind::NotFound, format!("{shown}: has no {package}"))
            .with_help("run `cargo xtask bench`, which prepares a Python that has it"));
    }
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    named.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Processor time that a process has used so far.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold spaces; user and system time are the 12th and 13th words after it.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
    // A tick is 10 ms on every Linux: the unit is part of its binary interface.
    Some(Duration::from_millis(10 * ticks))
}

/// A line of this process's status that is an amount of memory, in bytes: `VmRSS`, `VmHWM`, …
pub(crate) fn memory(line: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}
