//! `logitfuse serve`: from an experiment to answers, and its end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

const EXPERIMENT: &str = r#"
schema = 1
[sources.large]
model = "FAMILY/L"
chat_template = "none"
[sources.qa]
model = "FAMILY/S-qa"
chat_template = "none"
[sources.small]
model = "FAMILY/S"
chat_template = "none"
[[models]]
name = "large"
roles = { base = "large" }
[[models]]
name = "fused"
strategy = "static-proxy"
roles = { base = "large", expert = "qa", anti = "small" }
parameters = { alpha = 0.8 }
"#;

/// Ends the server however the test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn experiment(folder: &Path) -> std::path::PathBuf {
    let family = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family/models");
    let file = folder.join("served.toml");
    std::fs::write(&file, EXPERIMENT.replace("FAMILY", &family.display().to_string())).unwrap();
    file
}

fn command(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logitfuse"));
    command.arg("serve").arg(experiment(folder)).args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[cfg(unix)]
#[test]
fn an_experiment_is_served_until_it_is_told_to_end() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    let folder = tempfile::tempdir().unwrap();
    let mut server = Server(command(folder.path(), &["--port", "0", "--log-format", "json"]).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("no address: {line}")).to_owned();
    let head =
        |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    let models = ask(&address, &format!("{}\r\n", head("GET", "/v1/models")));
    assert!(models.contains("\"id\":\"large\"") && models.contains("\"id\":\"fused\""), "{models}");
    let body = r#"{"model": "fused", "prompt": "a secret prompt", "max_tokens": 3}"#;
    let kind = "Content-Type: application/json";
    let request = format!("{}{kind}\r\nContent-Length: {}\r\n\r\n{body}", head("POST", "/v1/completions"), body.len());
    let answer = ask(&address, &request);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("text_completion"), "{answer}");

    kill(Pid::from_raw(i32::try_from(server.0.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    let mut log = String::new();
    server.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let answered = log.lines().filter(|line| line.contains("\"message\":\"answered\"")).collect::<Vec<_>>();
    assert_eq!(answered.len(), 2, "{log}");
    assert!(answered.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["status"] == 200));
    assert!(!log.contains("a secret prompt"), "{log}");
}

#[test]
fn what_is_wrong_is_said_before_a_model_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, wrong, help) in [
        (&["--host", "0.0.0.0"][..], "there are no API keys", "--api-key-file"),
        (&["--api-key-file", "no-such-file"], "no-such-file", ""),
        (&["--set", "models=[]", "--set", "strategy.use=nonsense"], "nonsense", "static-proxy"),
    ] {
        let output = command(folder.path(), flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wrong) && said.contains(help), "{said}");
    }
}
