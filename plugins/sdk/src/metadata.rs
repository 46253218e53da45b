//! The metadata: what a plugin says of itself in a section of its file, readable without running any of its code.
//!
//! Core's [`StrategyInfo`] is made at run time, and a section must be known when the library is linked. So the build
//! script makes each strategy once, with its default parameters, and writes down what it says; [`metadata!`](crate::metadata!)
//! is that build script, and [`export!`](crate::export) puts the file into the section. What depends on parameters the host
//! asks each instance for, by `describe`.

use std::path::Path;

use logitfuse_core::{CalibrationSpec, Error, ErrorKind, PromptReading, Result, ResultExt, RoleSpec, StrategyInfo};
use logitfuse_plugin_abi::{ABI_MAJOR, ABI_MINOR, META_MAGIC};
use serde_json::{Map, Value, json};

/// The name of the file in `OUT_DIR`.
const FILE: &str = "logitfuse_plugin.meta";

/// The optional functions that every strategy of this crate has, in its table and in the extensions.
const CAPABILITIES: [&str; 8] =
    ["commit", "rollback", "fork", "settle", "describe", "begin", "read_prompt", "calibrate"];

/// Who made a plugin.
///
/// ```
/// use logitfuse_plugin::metadata::Package;
///
/// let package = Package { id: "org.example.gate".into(), version: "0.1.0".into(), ..Package::default() };
/// assert_eq!(package.license, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Unique among plugins, such as `org.example.gate`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// An SPDX expression.
    pub license: Option<String>,
    /// Where to find more.
    pub url: Option<String>,
}

impl Package {
    /// What Cargo tells a build script of its package; the name is the id.
    pub fn of_build_script() -> Self {
        let of = |name: &str| std::env::var(format!("CARGO_PKG_{name}")).ok().filter(|text| !text.is_empty());
        Self {
            id: of("NAME").unwrap_or_default(),
            version: of("VERSION").unwrap_or_default(),
            license: of("LICENSE"),
            url: of("REPOSITORY").or_else(|| of("HOMEPAGE")),
        }
    }
}

/// The bytes of the section: a magic, JSON, a NUL.
///
/// # Errors
/// [`ErrorKind::InvalidData`] if a strategy says of itself what no host would take.
///
/// ```
/// use logitfuse_core::{RoleSpec, StrategyInfo};
/// use logitfuse_plugin::metadata::{self, Package};
///
/// let package = Package { id: "org.example.gate".into(), version: "0.1.0".into(), ..Package::default() };
/// let bytes = metadata::section(&package, &[StrategyInfo::new("gate", [RoleSpec::one("base")])])?;
/// assert!(bytes.starts_with(b"LFMETA01{") && bytes.ends_with(b"}\0"));
///
/// let error = metadata::section(&package, &[StrategyInfo::new("Gate!", [])]).unwrap_err();
/// assert!(error.to_string().starts_with("Gate!: "));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub fn section(package: &Package, strategies: &[StrategyInfo]) -> Result<Vec<u8>> {
    let mut plugin = Map::new();
    plugin.insert("id".to_owned(), json!(package.id));
    plugin.insert("version".to_owned(), json!(package.version));
    plugin.insert("sdk".to_owned(), json!(concat!("rust ", env!("CARGO_PKG_VERSION"))));
    for (name, value) in [("license", &package.license), ("url", &package.url)] {
        if let Some(value) = value {
            plugin.insert(name.to_owned(), json!(value));
        }
    }
    let strategies = strategies.iter().map(describe).collect::<Result<Vec<Value>>>()?;
    let json = json!({ "abi": [ABI_MAJOR, ABI_MINOR], "plugin": plugin, "strategies": strategies });
    Ok([META_MAGIC, json.to_string().as_bytes(), b"\0"].concat())
}

/// Writes the section to where [`export!`](crate::export) looks for it; what [`metadata!`](crate::metadata!) calls.
///
/// # Errors
/// Those of [`section`], and [`ErrorKind::Io`] if this is no build script or the file cannot be written.
pub fn write(package: &Package, strategies: &[StrategyInfo]) -> Result<()> {
    let folder = std::env::var_os("OUT_DIR").ok_or_else(|| {
        Error::new(ErrorKind::Io, "OUT_DIR: not set").with_help("call logitfuse_plugin::metadata!(…) in build.rs")
    })?;
    let path = Path::new(&folder).join(FILE);
    std::fs::write(&path, section(package, strategies)?).or_err(ErrorKind::Io, path.display())
}

/// What one strategy says of itself, as an element of the metadata's `strategies`.
///
/// # Errors
/// As [`section`].
pub fn describe(info: &StrategyInfo) -> Result<Value> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidData, format!("{}: {what}", info.id));
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if info.id.is_empty() || !info.id.chars().all(kebab) {
        return Err(wrong("the id of a strategy is made of a-z, 0-9 and -".to_owned()));
    }
    if let Some(lead) = info.lead_role.as_ref().filter(|lead| !info.roles.iter().any(|role| role.name == **lead)) {
        return Err(wrong(format!("its lead `{lead}` is none of its roles")));
    }
    if let Some(spec) = &info.calibration {
        let stranger = |name: &&String| !info.roles.iter().any(|role| role.name == **name);
        if let Some(name) = [&spec.role].into_iter().chain(&spec.rows_of).find(stranger) {
            return Err(wrong(format!("the role `{name}` of its calibration is none of its roles")));
        }
        if spec.rows_of.is_empty() || spec.prompts == 0 {
            return Err(wrong("its calibration wants no rows".to_owned()));
        }
    }
    let params: Value = serde_json::from_str(&info.params_schema)
        .map_err(|e| wrong(format!("the schema of its parameters is no JSON: {e}")))?;
    let role = |role: &RoleSpec| {
        let mut described = json!({
            "name": role.name, "min": role.arity.min, "max": role.arity.max, "summary": role.summary,
        });
        if !role.aliases.is_empty() {
            described["aliases"] = json!(role.aliases);
        }
        described
    };
    let prompt = match info.prompt {
        PromptReading::End => "end",
        PromptReading::LogProbs => "log_probs",
        PromptReading::Rows => "rows",
    };
    let calibration = info.calibration.as_ref().map(|CalibrationSpec { role, rows_of, prompts, required, .. }| {
        json!({ "role": role, "rows_of": rows_of, "prompts": prompts, "required": required })
    });
    Ok(json!({
        "id": info.id,
        "summary": info.summary,
        "equation": info.equation,
        "reference": info.reference,
        "roles": info.roles.iter().map(role).collect::<Vec<_>>(),
        "params": params,
        "laws": info.laws,
        "trace": info.trace.iter().map(|c| json!({ "name": c.name, "unit": c.unit })).collect::<Vec<_>>(),
        "lead": info.lead_role,
        "prompt": prompt,
        "calibration": calibration,
        "capabilities": CAPABILITIES,
    }))
}

/// The parameters that [`metadata!`](crate::metadata!) makes a strategy with: JSON text, or none.
#[doc(hidden)]
pub fn params(text: Option<&str>) -> Result<Value> {
    serde_json::from_str(text.unwrap_or("{}")).or_err(ErrorKind::InvalidData, "metadata!: parameters")
}

/// The ids of the strategies in a section, in their order.
pub(crate) fn ids(section: &[u8]) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidData, format!("metadata: {what}"));
    let json = section.strip_prefix(META_MAGIC).ok_or_else(|| wrong("no magic"))?;
    let json: Value = serde_json::from_slice(json).or_err(ErrorKind::InvalidData, "metadata")?;
    let strategies = json["strategies"].as_array().ok_or_else(|| wrong("no list of strategies"))?;
    let id =
        |strategy: &Value| strategy["id"].as_str().map(str::to_owned).ok_or_else(|| wrong("a strategy without id"));
    strategies.iter().map(id).collect()
}
