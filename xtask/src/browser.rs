//! A headless Chromium, driven over its debugging pipe.
//!
//! Why a pipe: it needs no port, no WebSocket and no driver program. Messages are JSON, ended by a zero byte.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::steps::output_of;

/// Names under which it is installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A running browser with one page.
pub(crate) struct Browser {
    process: Child,
    commands: File,
    answers: BufReader<File>,
    session: String,
    next: u64,
    /// What the page reported by itself, in order: method and parameters.
    pub(crate) events: Vec<(String, Value)>,
}

/// The first browser on the path; none where there is none.
pub(crate) fn find() -> Option<&'static str> {
    NAMES.into_iter().find(|name| {
        let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

impl Browser {
    /// Starts it with a profile and pipes in `folder`, which should be empty and temporary.
    pub(crate) fn start(name: &str, folder: &Path) -> Result<Self> {
        let (into, out) = (folder.join("in"), folder.join("out"));
        output_of(Command::new("mkfifo").args([&into, &out]))?;
        // File descriptors 3 and 4 are where the browser looks; a shell puts them there without any unsafe code of ours.
        let mut command = Command::new("sh");
        command.args(["-c", "in=$1 out=$2; shift 2; exec \"$@\" 3<\"$in\" 4>\"$out\"", "sh"]).args([&into, &out]);
        command.args([name, "--headless=new", "--remote-debugging-pipe", "--hide-scrollbars", "--disable-gpu"]);
        // Chromium refuses its sandbox to root, which is who runs in most containers; the page is our own.
        command.arg("--no-sandbox").arg(format!("--user-data-dir={}", folder.join("profile").display()));
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{name}: cannot be started"))?;
        // In the order in which the shell opens its ends: each open waits for the other side.
        let commands = OpenOptions::new().write(true).open(&into)?;
        let answers = BufReader::new(File::open(&out)?);
        let mut browser = Self { process, commands, answers, session: String::new(), next: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attached =
            browser.call("Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }))?;
        let session = attached["sessionId"].as_str().context("the browser gave no session")?;
        browser.session.push_str(session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Calls a method and waits for its answer; what the page reports meanwhile is kept in `events`.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).context("the browser has gone")?;
        loop {
            let mut answer = self.read()?;
            if answer["id"] == json!(self.next) {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
            self.keep(answer);
        }
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) -> Result<()> {
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }))?;
        while !self.events.iter().any(|(method, _)| method == "Page.loadEventFired") {
            let event = self.read()?;
            self.keep(event);
        }
        Ok(())
    }

    /// The value of an expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let mut answer = self.call("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }))?;
        if !answer["exceptionDetails"].is_null() {
            bail!("`{expression}` threw: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].take())
    }

    /// Presses and releases a key, as a person would.
    pub(crate) fn press(&mut self, key: &str, code: u32) -> Result<()> {
        for kind in ["rawKeyDown", "keyUp"] {
            let params = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", &params)?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Value> {
        let mut bytes = Vec::new();
        self.answers.read_until(0, &mut bytes)?;
        ensure!(bytes.pop() == Some(0), "the browser has gone");
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn keep(&mut self, mut event: Value) {
        if let Some(method) = event["method"].as_str().map(str::to_owned) {
            self.events.push((method, event["params"].take()));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked, it ends its own children and leaves its profile in peace; one that has gone already needs no telling.
        self.session.clear();
        if self.call("Browser.close", &json!({})).is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
