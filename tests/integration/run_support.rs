//! Small experiments with tasks, and the command that runs them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{runtime, tiny};

/// An experiment in a folder of its own.
pub(crate) struct Bench {
    folder: TempDir,
}

/// The family's folder.
pub(crate) fn family() -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/family");
    examples.canonicalize().expect("the family lies in the repository")
}

impl Bench {
    /// The family's untuned models and its expert in question answering: two variants, one task that generates and one
    /// that scores.
    pub(crate) fn family() -> Self {
        let family = family();
        let models = family.join("models");
        let data = family.join("data");
        Self::new(&format!(
            "schema = 1\n[run]\nmax_new_tokens = 10\nstop = ['\\n']\ntraced_samples = 2\n\
             [sources.base]\nmodel = '{models}/S'\nchat_template = 'none'\n\
             [sources.expert]\nmodel = '{models}/S-qa'\nchat_template = 'none'\n\
             [tasks.qa]\ndata = '{data}/qa.validation.jsonl'\nlimit = 6\ntarget = '{{{{ gold }}}}'\n\
             filters = [{{ name = 'strict', filter = [{{ function = 'regex', regex_pattern = 'The answer is (.*)\\.' }}, \
             {{ function = 'take_first' }}] }}]\nmetrics = [{{ metric = 'exact_match' }}]\n\
             [tasks.mc]\ndata = '{data}/mc.validation.jsonl'\nlimit = 4\noutput_type = 'multiple_choice'\n\
             choices = 'options'\ntarget = 'gold'\n\
             [variants.base]\nstrategy = {{ use = 'none', roles = {{ base = 'base' }} }}\n\
             [variants.steered]\nstrategy = {{ use = 'static-proxy', roles = {{ anti = 'base' }} }}\n",
            models = models.display(),
            data = data.display(),
        ))
    }

    /// Two tiny random models, all of whose samples differ in length.
    pub(crate) fn tiny() -> Self {
        Self::of_model("gqa_fp32", None)
    }

    /// The same with another model as the base: `variant` chooses its ONNX file.
    pub(crate) fn of_model(model: &str, variant: Option<&str>) -> Self {
        let variant = variant.map_or(String::new(), |variant| format!("variant = '{variant}'\n"));
        let bench = Self::new(&format!(
            "schema = 1\n[run]\nmax_new_tokens = 9\ntraced_samples = 3\ntemperature = 0.7\n\
             [sources.base]\nmodel = 'base'\n{variant}[sources.expert]\nmodel = '{}'\n\
             [tasks.words]\ndata = 'words.jsonl'\nrepeats = 2\ntarget = '{{{{ \"a\" }}}}'\nmetrics = [{{ metric = 'exact_match' }}]\n\
             [tasks.choice]\ndata = 'words.jsonl'\noutput_type = 'multiple_choice'\nchoices = ['a', 'b c', 'the']\n\
             target = '0'\n\
             [variants.fused]\nstrategy = {{ use = 'static-proxy', roles = {{ anti = 'base' }} }}\n",
            tiny("plain_fp32").display(),
        ));
        bench.copy(&tiny(model), "base");
        // All tiny models share one.
        fs::copy(tiny("gqa_fp32").join("tokenizer.json"), bench.path("base/tokenizer.json")).expect("it can be copied");
        let words = ["a b", "c", "a b c a b c", "the", "b a", "the a the b the c", "b", "c b a", "a a a a"];
        let lines: Vec<String> = words.iter().map(|word| format!("{{\"prompt\": \"{word}\"}}\n")).collect();
        fs::write(bench.path("words.jsonl"), lines.concat()).expect("the test's folder is writable");
        bench
    }

    fn new(toml: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder for the test") };
        bench.write(toml);
        bench
    }

    fn copy(&self, from: &Path, to: &str) {
        fs::create_dir_all(self.path(to)).expect("the test's folder is writable");
        for entry in fs::read_dir(from).expect("the folder is there") {
            let entry = entry.expect("the folder can be read").path();
            let name = format!("{to}/{}", entry.file_name().unwrap_or_default().display());
            if entry.is_dir() {
                self.copy(&entry, &name);
            } else {
                fs::copy(&entry, self.path(&name)).expect("a file can be copied");
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn toml(&self) -> String {
        fs::read_to_string(self.path("x.toml")).expect("the experiment is there")
    }

    pub(crate) fn write(&self, toml: &str) {
        fs::write(self.path("x.toml"), toml).expect("the test's folder is writable");
    }

    /// `logitfuse` in the experiment's folder.
    pub(crate) fn logitfuse(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
        command.args(args).current_dir(self.folder.path()).env_remove("RUST_BACKTRACE");
        command.env("LOGITFUSE_ORT_LIB", runtime().library());
        command
    }

    /// What the command did, which may fail.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.logitfuse(args).output().expect("the command starts")
    }

    /// stdout of a command that succeeds.
    #[track_caller]
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("stdout is UTF-8")
    }

    /// Runs the experiment into a directory.
    #[track_caller]
    pub(crate) fn run(&self, directory: &str, more: &[&str]) -> String {
        self.succeed(&[&["run", "x.toml", "-q", "--no-report", "-o", directory], more].concat())
    }

    /// The command fails with this status; gives its stderr.
    #[track_caller]
    pub(crate) fn fail(&self, args: &[&str], status: i32) -> String {
        let output = self.output(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        stderr
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    }

    /// The samples of a directory.
    pub(crate) fn samples(&self, directory: &str) -> Vec<Value> {
        let text = self.read(&format!("{directory}/samples.jsonl"));
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Both directories hold the same results, byte by byte.
    #[track_caller]
    pub(crate) fn assert_equal(&self, one: &str, other: &str) {
        for file in ["samples.jsonl", "metrics.json"] {
            let (one, other) = (self.read(&format!("{one}/{file}")), self.read(&format!("{other}/{file}")));
            let line = one.lines().zip(other.lines()).position(|(one, other)| one != other);
            assert!(one == other, "{file} differs, first in line {line:?}");
        }
    }
}
