//! A peer in a process of its own, which works only while it is asked to: onnxruntime-genai, or fusion by hand.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, TokenId};
use logitfuse_onnx::Spin;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    contest::{Contestant, Task, Turn},
    model::{Model, Threads},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/genai_peer.py");
const PEER: &str = "the peer";

pub(crate) struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Ready {
    #[serde(rename = "load_ms")]
    _load_ms: f64,
}

#[derive(Deserialize)]
struct Generated {
    first_token_ms: f64,
    token_ms: Vec<f64>,
    tokens: Vec<TokenId>,
}

#[derive(Deserialize)]
struct Memory {
    peak_resident_bytes: u64,
}

/// Who drafts for genai, and how many tokens at a time.
#[derive(Clone, Copy)]
pub(crate) enum Drafting<'m> {
    /// What followed the last time.
    Ngram { tokens: usize },
    /// A smaller model.
    Model { model: &'m Model, tokens: usize },
}

/// How many tokens have to have been there before, with the first that is drafted.
const NGRAM: usize = 3;

impl Peer {
    /// Loads the model.
    pub(crate) fn start(python: &Path, model: &Model, threads: Threads) -> Result<Self> {
        Self::spawn(python, Command::new(python).arg(SCRIPT).arg(model.folder.root()).args(flags(threads)))
    }

    /// Loads the model, and has genai speculate.
    pub(crate) fn speculating(python: &Path, model: &Model, threads: Threads, drafting: Drafting<'_>) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(SCRIPT).arg(model.folder.root()).args(flags(threads)).arg("--speculate");
        match drafting {
            Drafting::Ngram { tokens } => command.args([&tokens.to_string(), "--ngram", &NGRAM.to_string()]),
            Drafting::Model { model, tokens } => {
                command.args([&tokens.to_string(), "--draft"]).arg(model.folder.root())
            }
        };
        Self::spawn(python, &mut command)
    }

    /// Loads the model three times, to be fused by a script.
    pub(crate) fn fusing(
        python: &Path,
        script: &Path,
        engine: &str,
        model: &Model,
        threads: Threads,
        side_by_side: bool,
    ) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(script).arg(engine).arg(model.folder.root()).args(flags(threads));
        Self::spawn(python, command.args(side_by_side.then_some("--side-by-side")))
    }

    fn spawn(python: &Path, command: &mut Command) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().or_err(ErrorKind::Io, python.display())?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(ErrorKind::Internal, format!("{PEER}: was started without its pipes")));
        };
        let mut peer = Self { child, requests: Some(requests), answers: BufReader::new(answers) };
        peer.answer::<Ready>()?;
        Ok(peer)
    }

    /// The most memory that its process has held so far.
    pub(crate) fn peak_resident_bytes(&mut self) -> Result<u64> {
        self.ask("memory")?;
        Ok(self.answer::<Memory>()?.peak_resident_bytes)
    }

    fn ask(&mut self, request: &str) -> Result<()> {
        let Some(requests) = &mut self.requests else {
            return Err(Error::new(ErrorKind::Internal, format!("{PEER}: was asked after its end")));
        };
        writeln!(requests, "{request}").and_then(|()| requests.flush()).or_err(ErrorKind::Io, PEER)
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line).or_err(ErrorKind::Io, PEER)?;
        if line.is_empty() {
            return Err(Error::new(ErrorKind::Backend, format!("{PEER}: ended by itself"))
                .with_help("what it wrote to stderr, above, says why"));
        }
        serde_json::from_str(&line).or_err(ErrorKind::Backend, format!("{PEER}: answered `{}`", line.trim()))
    }
}

fn flags(threads: Threads) -> [String; 4] {
    let spin = if threads.spin == Spin::Never { "off" } else { "on" };
    ["--threads".to_owned(), threads.count.to_string(), "--spin".to_owned(), spin.to_owned()]
}

impl Contestant for Peer {
    fn turn(&mut self, task: &Task) -> Result<Turn> {
        let [prompt, ..] = &task.prompts[..] else {
            return Err(Error::new(ErrorKind::Internal, "a task without a prompt"));
        };
        let ids: Vec<String> = prompt.iter().map(TokenId::to_string).collect();
        self.ask(&format!("run {} {}", task.new_tokens, ids.join(" ")))?;
        let Generated { first_token_ms, token_ms, tokens } = self.answer()?;
        if tokens.len() < task.new_tokens {
            let message = format!("{PEER}: ended its text after {} tokens", tokens.len());
            return Err(Error::new(ErrorKind::Backend, message).with_help("choose a prompt with a longer answer"));
        }
        Ok(Turn { first_ms: first_token_ms, token_ms, tokens, inside: None })
    }

    fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the end of its work.
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}
