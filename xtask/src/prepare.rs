//! What the tests and benchmarks need beyond cargo, and the environment variables that tell them where it is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use logitfuse_setup::{
    Check, Environment, Python, Weights, default_model_dir, env, install_runtime, make_once, model_smollm2,
    sha256_of_texts, smollm2_dir,
};

use crate::steps::{root, target_dir};

/// Everything that the tests and benchmarks run on.
pub(crate) struct Prepared {
    runtime: PathBuf,
    peer_python: PathBuf,
    tiny_models: PathBuf,
    models: PathBuf,
}

impl Prepared {
    /// Finds or makes all of it. The pinned ONNX Runtime is taken even where another is installed: the tests compare
    /// bits with a peer that has exactly that one.
    pub(crate) fn new(env: &Environment) -> Result<Self> {
        let runtime = match env.path(&env::ORT_LIB) {
            Some(given) => given,
            None => install_runtime(env, false, &mut say)?.library,
        };
        let peer = peer_python(env)?;
        let tiny_models = tiny_models(&peer)?;
        for weights in [Weights::Int8, Weights::Fp32] {
            let dir = model_smollm2(env, &smollm2_dir(env, weights)?, weights, &mut say)?;
            say(&format!("SmolLM2-135M-Instruct, {weights}: {}", dir.display()));
        }
        let models = default_model_dir(env)?;
        Ok(Self { runtime, peer_python: peer.program().to_owned(), tiny_models, models })
    }

    /// A peer more, and a Python of its own for it: the packages take gigabytes.
    pub(crate) fn add_transformers(&mut self, env: &Environment) -> Result<()> {
        let lists = ["tests/requirements.txt", "tests/bench/requirements-transformers.txt"];
        self.peer_python = python_with(env, "peer-python-transformers", &lists)?.program().into();
        Ok(())
    }

    /// The command, told where everything is.
    pub(crate) fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env(env::ORT_LIB.name, &self.runtime)
            .env(env::PEER_PYTHON.name, &self.peer_python)
            .env(env::TINY_MODELS.name, &self.tiny_models)
            .env(env::MODELS.name, &self.models)
    }
}

/// A line about what is being set up.
pub(crate) fn say(line: &str) {
    eprintln!("set-up: {line}");
}

/// A Python with the packages that we compare with, apart from the user's own.
fn peer_python(env: &Environment) -> Result<Python> {
    python_with(env, "peer-python", &["tests/requirements.txt"])
}

/// A Python in a folder of the target directory, with what some lists of packages say.
fn python_with(env: &Environment, name: &str, lists: &[&str]) -> Result<Python> {
    let read = |list: &&str| {
        let path = root().join(list);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let requirements = lists.iter().map(read).collect::<Result<String>>()?;
    let python = Python::find(env)?.with_packages(&target_dir().join(name), &requirements, &mut say)?;
    say(&format!("Python of the peers: {}", python.program().display()));
    Ok(python)
}

/// Small decoders with every oddity that real ones have, generated anew whenever one of their scripts changes.
fn tiny_models(peer: &Python) -> Result<PathBuf> {
    let folder = root().join("tests/models");
    let script = folder.join("tiny_decoders.py");
    let texts = python_files(&folder).with_context(|| folder.display().to_string())?;
    let dir = target_dir().join("tiny-models");
    make_once(&dir, &sha256_of_texts(texts.iter().map(String::as_str)), Check::Sizes, &mut say, |fresh, say| {
        say("tiny decoders: generating");
        peer.run_script(&script, [fresh]).map(drop)
    })?;
    say(&format!("tiny decoders: {}", dir.display()));
    Ok(dir)
}

/// The text of every Python file of a folder, in the order of their names.
fn python_files(folder: &Path) -> io::Result<Vec<String>> {
    let entries: io::Result<Vec<PathBuf>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths = entries?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "py"));
    paths.sort();
    paths.iter().map(fs::read_to_string).collect()
}
