//! Execution providers: what a user may name, and how each is registered.

mod profile;

use std::{
    collections::BTreeMap,
    ffi::{CString, c_char},
    fmt,
    str::FromStr,
};

use logitfuse_core::{Error, ErrorKind, Result};
use ort::{
    AsPointer,
    ep::{self, ArbitrarilyConfigurableExecutionProvider},
    session::builder::SessionBuilder,
};

pub(crate) use self::profile::TensorRtProfile;

/// An execution provider of ONNX Runtime: where a model's operations run.
///
/// Written `name` or `name:key=value,key=value`. The options of `cuda` and `tensorrt` are those of ONNX Runtime
/// (`device_id`, `gpu_mem_limit`, `trt_fp16_enable`, …); other providers get theirs passed through unread. `tensorrt`
/// also understands, because a decoder needs them every time:
///
/// | option | meaning |
/// |---|---|
/// | `fp16=true` | half precision (`trt_fp16_enable`) |
/// | `engine_cache=DIR` | keep built engines there: building takes minutes |
/// | `timing_cache=DIR` | keep kernel timings there: makes the next build faster |
/// | `max_batch=N` | sequences decoded together, default 1 |
/// | `max_length=N` | tokens of a sequence, default the context length, 2048 if that is unknown |
/// | `max_chunk=N` | tokens of one call, default that of the prompt chunks |
///
/// The last three become the min/opt/max shape profiles of token ids, mask, positions and every key/value tensor,
/// unless `trt_profile_min_shapes` and its siblings are given.
///
/// ```
/// use logitfuse_onnx::Provider;
///
/// let cuda: Provider = "cuda:device_id=0,gpu_mem_limit=8589934592".parse()?;
/// assert_eq!(cuda.name(), "cuda");
/// assert_eq!(cuda.options()["device_id"], "0");
///
/// let typo = "cudda".parse::<Provider>().unwrap_err();
/// assert!(typo.help().unwrap().contains("cuda"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    kind: &'static ProviderKind,
    options: BTreeMap<String, String>,
}

/// A provider that may be named, by its short name or by ONNX Runtime's.
#[derive(Debug, PartialEq, Eq)]
struct ProviderKind {
    name: &'static str,
    /// ONNX Runtime's name.
    ort_name: &'static str,
    /// The name that ONNX Runtime's generic registration function takes; empty where ort has a type for the provider.
    registration_name: &'static str,
}

macro_rules! providers {
    ($($name:literal $ort:literal $registration:literal)*) => {
        &[$(ProviderKind { name: $name, ort_name: $ort, registration_name: $registration }),*]
    };
}

const PROVIDERS: &[ProviderKind] = providers! {
    "cpu" "CPUExecutionProvider" ""
    "cuda" "CUDAExecutionProvider" ""
    "tensorrt" "TensorrtExecutionProvider" ""
    "openvino" "OpenVINOExecutionProvider" "OpenVINO"
    "directml" "DmlExecutionProvider" "DML"
    "coreml" "CoreMLExecutionProvider" "CoreML"
    "qnn" "QNNExecutionProvider" "QNN"
    "webgpu" "WebGpuExecutionProvider" "WebGPU"
    "xnnpack" "XnnpackExecutionProvider" "XNNPACK"
    "vitisai" "VitisAIExecutionProvider" "VitisAI"
};

impl Provider {
    /// A provider by name, `cuda` or `CUDAExecutionProvider`, with its options.
    pub fn new(name: &str, options: BTreeMap<String, String>) -> Result<Self> {
        let wanted = name.trim();
        let same =
            |kind: &&ProviderKind| kind.name.eq_ignore_ascii_case(wanted) || kind.ort_name.eq_ignore_ascii_case(wanted);
        let Some(kind) = PROVIDERS.iter().find(same) else {
            let known: Vec<&str> = PROVIDERS.iter().map(|kind| kind.name).collect();
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{wanted}: no such execution provider"))
                .with_help(format!("known are {}", known.join(", "))));
        };
        let nul = options.iter().find(|(key, value)| key.contains('\0') || value.contains('\0'));
        if let Some((key, _)) = nul {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{wanted}: option {key:?} holds a NUL character"),
            )
            .with_help("remove the character"));
        }
        Ok(Self { kind, options })
    }

    /// The CPU: what is used when nothing is named.
    pub fn cpu() -> Self {
        Self { kind: &PROVIDERS[0], options: BTreeMap::new() }
    }

    /// Its short name.
    pub fn name(&self) -> &str {
        self.kind.name
    }

    /// Its options.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// The CUDA device whose memory the key/value cache lives in; `None` for host memory.
    pub(crate) fn cuda_device(&self) -> Option<i32> {
        matches!(self.name(), "cuda" | "tensorrt")
            .then(|| self.options.get("device_id").and_then(|id| id.parse().ok()).unwrap_or(0))
    }

    /// Registers the provider, or fails: there is no silent fallback to the CPU.
    pub(crate) fn register(
        &self,
        builder: SessionBuilder,
        profile: &TensorRtProfile<'_>,
    ) -> ort::Result<SessionBuilder> {
        match self.name() {
            "cpu" => Ok(builder),
            "cuda" => {
                let cuda = configured(ep::CUDA::default(), &self.options);
                Ok(builder.with_execution_providers([cuda.build().error_on_failure()])?)
            }
            "tensorrt" => {
                let tensorrt = configured(ep::TensorRT::default(), &profile.options(&self.options));
                // What TensorRT cannot run stays on the same GPU.
                let cuda = ep::CUDA::default().with_device_id(self.cuda_device().unwrap_or(0));
                let both = [tensorrt.build().error_on_failure(), cuda.build().error_on_failure()];
                Ok(builder.with_execution_providers(both)?)
            }
            _ => self.register_by_name(builder),
        }
    }

    #[expect(unsafe_code, reason = "ort wraps each provider by a type of its own; the generic call is C only")]
    fn register_by_name(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let name = CString::new(self.kind.registration_name)?;
        let text = |text: &String| CString::new(text.as_str());
        let keys = self.options.keys().map(text).collect::<Result<Vec<_>, _>>()?;
        let values = self.options.values().map(text).collect::<Result<Vec<_>, _>>()?;
        let key_pointers: Vec<*const c_char> = keys.iter().map(|key| key.as_ptr()).collect();
        let value_pointers: Vec<*const c_char> = values.iter().map(|value| value.as_ptr()).collect();
        // SAFETY: the builder owns live session options; `name` and the `keys.len()` keys and values are C strings that
        // outlive the call, which copies them. The status is consumed exactly once.
        unsafe {
            ort::Error::result_from_status((ort::api().SessionOptionsAppendExecutionProvider)(
                builder.ptr_mut(),
                name.as_ptr(),
                key_pointers.as_ptr(),
                value_pointers.as_ptr(),
                keys.len(),
            ))?;
        }
        Ok(builder)
    }
}

fn configured<P: ArbitrarilyConfigurableExecutionProvider>(provider: P, options: &BTreeMap<String, String>) -> P {
    options.iter().fold(provider, |provider, (key, value)| provider.with_arbitrary_config(key, value))
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let pairs = options.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(ErrorKind::InvalidConfig, format!("{text}: option `{pair}` has no value"))
                    .with_help("write options as `name:key=value,key=value`")
            })?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        });
        Self::new(name, pairs.collect::<Result<_>>()?)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for (i, (key, value)) in self.options.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}
