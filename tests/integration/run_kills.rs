//! Runs that are killed.

use std::{
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::run_support::Bench;

const KILLS: usize = 100;

/// Every life goes on from where the last one was killed. Should one reach the end, the next begins anew.
#[test]
fn a_hundred_kills_change_no_byte() {
    let bench = Bench::family();
    bench.run("whole", &["--batch", "2"]);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let (mut kills, mut lives, mut finished) = (0, 0, 0);
    while kills < KILLS {
        let directory = format!("killed{finished}");
        let args = ["run", "x.toml", "-q", "--no-report", "-o", &directory, "--batch", "2"];
        let mut child = bench.logitfuse(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().expect("the command starts");
        lives += 1;
        let log = bench.path(&format!("{directory}/samples.jsonl"));
        if wait(child, &log, &mut random) {
            child.kill().expect("a running process can be killed");
            child.wait().expect("a killed process ends");
            kills += 1;
        } else {
            assert!(child.wait().expect("the process ended").success());
            bench.assert_equal("whole", &directory);
            finished += 1;
        }
    }
    bench.run(&format!("killed{finished}"), &[]);
    bench.assert_equal("whole", &format!("killed{finished}"));
    assert!(lives > KILLS && finished > 0, "{kills} kills over {lives} lives, {finished} whole runs");
}

/// Waits for the moment to kill: some time after the process began, or after it wrote some samples. False if it ended first.
fn wait(child: &mut Child, log: &std::path::Path, random: &mut ChaCha8Rng) -> bool {
    let length = || fs::metadata(log).map_or(0, |file| file.len());
    let (before, begun) = (length(), Instant::now());
    let at_the_beginning = random.next_u32().is_multiple_of(4);
    let more = 1 + u64::from(random.next_u32() % 20_000);
    let pause = Duration::from_micros(u64::from(random.next_u32() % 30_000));
    let moment = Duration::from_millis(u64::from(random.next_u32() % 150));
    loop {
        if child.try_wait().expect("a child can be asked").is_some() {
            return false;
        }
        let is_time = if at_the_beginning { begun.elapsed() >= moment } else { length() >= before + more };
        if is_time {
            std::thread::sleep(if at_the_beginning { Duration::ZERO } else { pause });
            return child.try_wait().expect("a child can be asked").is_none();
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Ctrl-C ends after the samples that are done, says how to go on, and the same command does.
#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let bench = Bench::family();
    // So many that there is time to interrupt.
    bench.write(&bench.toml().replace("limit = 6", "limit = 128"));
    bench.run("whole", &[]);
    let args = ["run", "x.toml", "--no-report", "-o", "cut", "--batch", "1"];
    let mut child = bench.logitfuse(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let log = bench.path("cut/samples.jsonl");
    while fs::metadata(&log).map_or(0, |file| file.len()) == 0 {
        assert!(child.try_wait().expect("a child can be asked").is_none(), "it ended before its first sample");
        std::thread::sleep(Duration::from_micros(200));
    }
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("kill starts").success());
    let output = child.wait_with_output().expect("the command ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on from there"), "{said}");
    assert!(!bench.path("cut/metrics.json").exists());
    bench.run("cut", &[]);
    bench.assert_equal("whole", "cut");
}
