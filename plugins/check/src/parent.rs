//! The parent process: plans the cases, starts a child for each, and reads its record.

use std::{
    collections::VecDeque,
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use logitfuse_core::{ErrorKind, Result, ResultExt};
use serde::Deserialize;

use crate::{
    CaseResult, Group, Isolation, Options, Outcome, Report, Request, Verdict, child, config, environment,
    family::{self, Family},
    files, laws, load, memory, numeric, perf, threads,
};
use logitfuse_plugin_host::{PluginFile, printable};

/// A fuzzing child ends after so long, so that a crash costs little of what was tried.
const SLICE: Duration = Duration::from_secs(10);
/// After so many cases that did not end, no more are tried: each costs all of its time, and tells nothing new.
const MOST_HUNG: usize = 2;
/// How often a case's processes are counted while it runs.
const LOOK: Duration = Duration::from_millis(50);

/// Checks a plugin. `on_result` is called with every result, in the order of the report, as soon as it is there.
///
/// # Errors
/// Only what prevents the check: the file does not exist, a child cannot be started. What is wrong with the plugin is a
/// finding of the report, also that it is no plugin at all.
pub fn run(
    path: &Path,
    options: &Options,
    isolation: &Isolation,
    on_result: &mut dyn FnMut(&CaseResult),
) -> Result<Report> {
    let mut report = Report::new(path, options.seed);
    let file = match PluginFile::read(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Io) => return Err(e),
        Err(e) => {
            let help = e.help().map(|help| format!(" ({help})")).unwrap_or_default();
            let result = files::result(None, "file", Outcome::Failed(format!("{e}{help}")));
            on_result(&result);
            report.results.push(result);
            return Ok(report);
        }
    };
    report.describe(&file);
    let wanted =
        |group: Group, name: &str| options.filter.as_ref().is_none_or(|f| format!("{group}/{name}").contains(f));
    let ours = |id: Option<&str>| options.strategy.as_deref().is_none_or(|only| id.is_none_or(|id| id == only));
    for result in files::results(&file).into_iter().filter(|r| wanted(r.group, &r.name) && ours(r.strategy.as_deref()))
    {
        on_result(&result);
        report.results.push(result);
    }
    let mut requests = plan(&file, options);
    requests.retain(|request| wanted(request.group, &request.name) && ours(request.strategy.as_deref()));
    run_all(requests, options, isolation, &mut |result| {
        on_result(&result);
        report.results.push(result);
    })?;
    Ok(report)
}

/// The cases of a plugin, in the order in which they are reported.
fn plan(file: &PluginFile, options: &Options) -> Vec<Request> {
    let mut all = Vec::new();
    for strategy in &file.metadata().strategies {
        let mut add = |group: Group, name: &str, seed: u64, fuzz: Duration| {
            all.push(Request {
                plugin: file.path().to_owned(),
                sha256: file.hash().to_string(),
                strategy: Some(strategy.info.id.clone()),
                group,
                name: name.to_owned(),
                params: options.params.clone(),
                seed,
                cases: options.cases,
                fuzz_ms: u64::try_from(fuzz.as_millis()).unwrap_or(u64::MAX),
                nonce: format!("{:x}-{}", std::process::id(), all.len()),
            });
        };
        let claimed: Vec<String> = strategy.info.laws.iter().map(ToString::to_string).collect();
        let groups: [(Group, Vec<&str>); 8] = [
            (Group::Load, load::CASES.to_vec()),
            (Group::Config, config::CASES.to_vec()),
            (Group::Memory, memory::CASES.to_vec()),
            (Group::Numeric, numeric::CASES.to_vec()),
            (Group::StateLaws, laws::cases(&strategy.info).collect()),
            (Group::ClaimedLaws, claimed.iter().map(String::as_str).collect()),
            (Group::Threads, threads::CASES.to_vec()),
            (Group::Environment, environment::CASES.to_vec()),
        ];
        for (group, names) in groups {
            for name in names {
                add(group, name, options.seed, Duration::ZERO);
            }
        }
        for name in perf::CASES {
            add(Group::Perf, name, options.seed, Duration::ZERO);
        }
        let mut left = options.fuzz.unwrap_or_default();
        let mut seed = options.seed;
        while !left.is_zero() {
            let slice = left.min(SLICE);
            add(Group::Fuzz, &format!("seed-{seed}"), seed, slice);
            left -= slice;
            seed = seed.wrapping_add(1);
        }
    }
    all
}

fn run_all(
    requests: Vec<Request>,
    options: &Options,
    isolation: &Isolation,
    on_result: &mut dyn FnMut(CaseResult),
) -> Result<()> {
    let Isolation::Process { program, arguments } = isolation else {
        for request in &requests {
            let start = Instant::now();
            let (verdict, detail) = child::run_case(request).parts();
            on_result(result(request, verdict, detail, start.elapsed()));
        }
        return Ok(());
    };
    let jobs = if options.jobs == 0 { thread::available_parallelism().map_or(1, usize::from) } else { options.jobs };
    let total = requests.len();
    let queue: Mutex<VecDeque<(usize, Request)>> = Mutex::new(requests.into_iter().enumerate().collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let hung = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for _ in 0..jobs.min(total) {
            let (send, next, hung) = (send.clone(), &next, &hung);
            scope.spawn(move || {
                while let Some((index, request)) = next() {
                    let done = if hung.load(Ordering::Relaxed) < MOST_HUNG {
                        in_child(&request, options.timeout, program, arguments)
                    } else {
                        let why = format!("not tried: {MOST_HUNG} cases before it did not end");
                        Ok(result(&request, Verdict::Skipped, why, Duration::ZERO))
                    };
                    if done.as_ref().is_ok_and(|done| done.verdict == Verdict::Hung) {
                        hung.fetch_add(1, Ordering::Relaxed);
                    }
                    if send.send((index, done)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        // Reported in order, whichever ends first.
        let mut early: Vec<Option<CaseResult>> = (0..total).map(|_| None).collect();
        let mut reported = 0;
        for (index, done) in receive {
            early[index] = Some(done?);
            while let Some(result) = early.get_mut(reported).and_then(Option::take) {
                on_result(result);
                reported += 1;
            }
        }
        Ok(())
    })
}

fn result(request: &Request, verdict: Verdict, detail: String, took: Duration) -> CaseResult {
    CaseResult {
        group: request.group,
        name: request.name.clone(),
        strategy: request.strategy.clone(),
        verdict,
        detail,
        seconds: took.as_secs_f64(),
    }
}

#[derive(Deserialize)]
struct Record {
    nonce: String,
    verdict: Verdict,
    detail: String,
}

fn in_child(request: &Request, timeout: Duration, program: &Path, arguments: &[String]) -> Result<CaseResult> {
    let folder =
        tempfile::Builder::new().prefix("logitfuse-check-").tempdir().or_err(ErrorKind::Io, "a folder for a case")?;
    let at = |name: &str| folder.path().join(name);
    let (asked, record, said, printed) = (at("request.json"), at("record.json"), at("stderr"), at("stdout"));
    let text = serde_json::to_vec(request).or_err(ErrorKind::Internal, "the request of a case")?;
    let io = |what: &'static str| move |e: std::io::Error| e_io(what, &e);
    std::fs::write(&asked, text).map_err(io("the request of a case"))?;
    let start = Instant::now();
    let mut command = Command::new(program);
    Family::prepare(&mut command, &request.nonce);
    let mut process = command
        .args(arguments)
        .args([&asked, &record])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(File::create(&printed).map_err(io("the output of a case"))?)
        .stderr(File::create(&said).map_err(io("the output of a case"))?)
        .spawn()
        .map_err(io("a child for a case"))?;
    let limit = timeout + Duration::from_millis(request.fuzz_ms);
    let family = Family::of(process.id(), &request.nonce);
    let end = wait(&mut process, &family, limit).map_err(io("a child of a case"))?;
    let left = family.others().len();
    family.kill_others();
    let took = start.elapsed();
    let record: Option<Record> = std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let record = record.filter(|record| record.nonce == request.nonce);
    let is_exit = request.group == Group::Environment && request.name == environment::EXIT;
    let (mut verdict, mut detail) = match end {
        End::Swarm => (Verdict::Failed, format!("started more than {} processes: it calls fork", family::MOST)),
        End::TimedOut => verdict(None, record, limit),
        End::Ended(status) if is_exit => exit_verdict(status, record),
        End::Ended(status) => verdict(Some(status), record, limit),
    };
    if left > 0 && !verdict.is_finding() {
        (verdict, detail) = (Verdict::Failed, format!("left {left} processes running"));
    }
    if verdict == Verdict::Crashed
        && let Some(last) = last_stderr_line(&said)
    {
        detail = format!("{detail}; its last words: {last}");
    }
    let noise = std::fs::metadata(&printed).map_or(0, |about| about.len());
    if noise > 0 && !verdict.is_finding() {
        (verdict, detail) = (Verdict::Failed, format!("wrote {noise} bytes to stdout, which is the host's"));
    }
    Ok(result(request, verdict, detail, took))
}

fn e_io(what: &str, e: &std::io::Error) -> logitfuse_core::Error {
    logitfuse_core::Error::new(ErrorKind::Io, format!("{what}: {e}"))
        .with_help("look for room in the temporary folder, and for processes that may be started")
}

/// How the process of a case came to its end.
enum End {
    Ended(ExitStatus),
    TimedOut,
    /// It started too many others.
    Swarm,
}

/// Waits until the process ends, or kills it with its group; in both cases it is reaped.
fn wait(process: &mut Child, family: &Family, limit: Duration) -> std::io::Result<End> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut look = start + LOOK;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(End::Ended(status));
        }
        let now = Instant::now();
        let swarm = now >= look && family.others().len() > family::MOST;
        if swarm || now >= start + limit {
            family.kill_group();
            // It may have ended just now; then there is nothing to kill.
            let _ = process.kill();
            process.wait()?;
            return Ok(if swarm { End::Swarm } else { End::TimedOut });
        }
        if now >= look {
            look = now + LOOK;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Of the case whose process ends as a program does: its status must be the one that it set.
fn exit_verdict(status: ExitStatus, record: Option<Record>) -> (Verdict, String) {
    let Some(record) = record else { return verdict(Some(status), None, Duration::ZERO) };
    match status.code() {
        Some(environment::EXIT_STATUS) => (record.verdict, record.detail),
        // Code of the plugin did not run: the strategy could not be made.
        Some(0) if record.verdict != Verdict::Passed => (record.verdict, record.detail),
        Some(code) => {
            let was = environment::EXIT_STATUS;
            let what = format!(
                "the process ended with status {code} in the place of {was}: an exit handler of it sets another"
            );
            (Verdict::Failed, what)
        }
        None => (Verdict::Crashed, format!("{} when the process ended", ended(status))),
    }
}

/// What a process that ended so, and left such a record, says about its case.
fn verdict(status: Option<ExitStatus>, record: Option<Record>, limit: Duration) -> (Verdict, String) {
    match (status, record) {
        (None, None) => (Verdict::Hung, format!("did not end within {} s", limit.as_secs())),
        (None, Some(_)) => {
            (Verdict::Hung, format!("the process did not end within {} s, although the case did", limit.as_secs()))
        }
        (Some(status), Some(record)) if status.success() => (record.verdict, record.detail),
        (Some(status), _) if started_a_process(status) => {
            (Verdict::Failed, "started a process, for which a plugin has no reason".to_owned())
        }
        (Some(status), Some(_)) => (Verdict::Crashed, format!("{} when the process ended", ended(status))),
        (Some(status), None) if status.success() => {
            (Verdict::Crashed, "ended with status 0 before the case did: it calls exit".to_owned())
        }
        (Some(status), None) => (Verdict::Crashed, ended(status)),
    }
}

/// Whether the filter against processes ended it.
#[cfg(target_os = "linux")]
fn started_a_process(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGSYS)
}

#[cfg(not(target_os = "linux"))]
fn started_a_process(_status: ExitStatus) -> bool {
    false
}

#[cfg(unix)]
fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;

    let Some(signal) = status.signal() else { return format!("ended with {status}") };
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV: it touched memory that is not its own, or its stack overflowed",
        libc::SIGBUS => "SIGBUS: it touched memory that is not there",
        libc::SIGABRT => "SIGABRT: it aborted, or a panic or exception left the plugin",
        libc::SIGILL => "SIGILL: it ran an instruction that this processor does not have",
        libc::SIGFPE => "SIGFPE: it divided an integer by zero",
        _ => return format!("killed by signal {signal}"),
    };
    format!("killed by {name}")
}

#[cfg(not(unix))]
fn ended(status: ExitStatus) -> String {
    format!("ended with {status}")
}

/// The last line that a process wrote to stderr, preferring the one with a panic's message.
fn last_stderr_line(stderr: &Path) -> Option<String> {
    let bytes = std::fs::read(stderr).ok()?;
    let lines: Vec<String> =
        bytes.split(|b| *b == b'\n').map(printable).filter(|line| !line.trim().is_empty()).collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    match panic {
        Some(at) => Some(lines[at..lines.len().min(at + 2)].join(" ")),
        None => lines.last().cloned(),
    }
}
