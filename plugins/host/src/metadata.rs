use std::collections::BTreeSet;

use logitfuse_core::{
    Arity, CalibrationSpec, Error, ErrorKind, Law, PromptReading, Result, RoleSpec, StrategyInfo, TraceColumn, params,
};
use logitfuse_schema::Schema;
use serde::Deserialize;
use serde_json::Value;

use crate::text;

const MAGIC: &[u8] = b"LFMETA01";
const MAGIC_OF_ANY_VERSION: &[u8] = b"LFMETA";
/// More than any description of strategies needs, and little enough to read of every file in a folder.
const LARGEST: usize = 4 << 20;
/// Strategies of a plugin, columns and laws of a strategy.
const MOST: usize = 256;
/// Roles of a strategy, aliases of a role.
const MOST_ROLES: usize = 64;
/// What the ABI's major stands for; the minor only ever adds.
const ABI_MAJOR: u32 = logitfuse_plugin_abi::ABI_MAJOR;
const ABI_MINOR: u32 = logitfuse_plugin_abi::ABI_MINOR;

/// What a plugin says of itself in bytes that can be read without running it.
///
/// ```
/// use logitfuse_plugin_host::Metadata;
///
/// let section = br#"LFMETA01{
///     "abi": [1, 0],
///     "plugin": { "id": "org.example.mean", "version": "0.1.0", "license": "MIT" },
///     "strategies": [{ "id": "mean", "roles": [{ "name": "base", "min": 1, "max": 2 }] }]
/// }"#;
/// let metadata = Metadata::parse(section)?;
/// assert_eq!(metadata.strategies[0].info.roles[0].arity.max, Some(2));
///
/// let newer = Metadata::parse(br#"LFMETA01{ "abi": [1, 99], "plugin": { "id": "x", "version": "1" }, "strategies": [] }"#);
/// assert!(newer.unwrap_err().to_string().contains("ABI 1.99"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The ABI that it was built for: major and minor.
    pub abi: (u32, u32),
    /// The plugin's id, such as `org.example.mean`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its licence as an SPDX expression; empty if it states none.
    pub license: String,
    /// What it was built with; empty if it does not say.
    pub sdk: String,
    /// Where it comes from; empty if it does not say.
    pub url: String,
    /// Its strategies, one or more.
    pub strategies: Vec<StrategyMetadata>,
}

/// What a plugin says of one of its strategies.
#[derive(Clone, Debug)]
pub struct StrategyMetadata {
    /// As a built-in strategy says it.
    pub info: StrategyInfo,
    /// What it can do beyond fusing: `stateful`, `fork`, `rollback`, `threads`, `nondeterministic`, …
    pub capabilities: BTreeSet<String>,
    pub(crate) schema: Schema,
}

impl StrategyMetadata {
    /// The schema of its parameters.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Holds parameters against the schema, without running the plugin.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]; the message starts with the JSON pointer of the parameter that is wrong.
    pub fn check_params(&self, values: &Value) -> Result<()> {
        self.schema.check(values).map_err(|refusal| params::invalid(&refusal.pointer, refusal.why))
    }
}

#[derive(Deserialize)]
struct Raw {
    abi: (u32, u32),
    plugin: RawPlugin,
    strategies: Vec<RawStrategy>,
}

#[derive(Deserialize)]
struct RawPlugin {
    id: String,
    version: String,
    #[serde(default)]
    license: String,
    #[serde(default)]
    sdk: String,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct RawStrategy {
    id: String,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    equation: String,
    #[serde(default)]
    reference: String,
    roles: Vec<RawRole>,
    #[serde(default)]
    params: Option<Value>,
    #[serde(default)]
    capabilities: BTreeSet<String>,
    #[serde(default)]
    laws: Vec<String>,
    #[serde(default)]
    trace: Vec<RawColumn>,
    #[serde(default)]
    lead: Option<String>,
    #[serde(default)]
    prompt: RawPrompt,
    #[serde(default)]
    calibration: Option<RawCalibration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawPrompt {
    #[default]
    End,
    LogProbs,
    Rows,
}

#[derive(Deserialize)]
struct RawCalibration {
    role: String,
    rows_of: Vec<String>,
    prompts: usize,
    #[serde(default)]
    required: bool,
}

#[derive(Deserialize)]
struct RawRole {
    name: String,
    min: usize,
    #[serde(default)]
    max: Option<usize>,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    aliases: Vec<String>,
}

#[derive(Deserialize)]
struct RawColumn {
    name: String,
    #[serde(default)]
    unit: String,
}

impl Metadata {
    /// Reads the contents of a `.lfmeta` section.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] for what is no metadata, [`ErrorKind::Incompatible`] for an ABI that this host does not
    /// speak. Messages do not begin with the file, which only the caller knows.
    pub fn parse(section: &[u8]) -> Result<Self> {
        let wrong = |what: String| {
            Error::new(ErrorKind::InvalidData, format!("metadata: {what}")).with_help(
                "this is a fault of the plugin: section .lfmeta holds LFMETA01 and one JSON object, padded with NUL",
            )
        };
        if section.len() > LARGEST {
            return Err(wrong(format!("{} bytes, and {LARGEST} are allowed", section.len())));
        }
        let Some(rest) = section.strip_prefix(MAGIC) else {
            if section.starts_with(MAGIC_OF_ANY_VERSION) {
                let version = text::printable(section.get(..MAGIC.len()).unwrap_or(section));
                return Err(Error::new(
                    ErrorKind::Incompatible,
                    format!("metadata: {version} is a newer form than LFMETA01"),
                )
                .with_help("use a newer logitfuse, or build the plugin with an older SDK"));
            }
            return Err(wrong("it does not begin with LFMETA01".to_owned()));
        };
        let end = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let rest = &rest[..end];
        if rest.contains(&0) {
            return Err(wrong("there is more than one of it".to_owned()));
        }
        let value: Value = serde_json::from_slice(rest).map_err(|e| wrong(format!("not JSON: {e}")))?;
        check_abi(&value)?;
        let raw: Raw = params::parse(&value).map_err(|e| wrong(e.to_string()))?;
        raw.check().map_err(wrong)
    }

    /// The strategy with this id.
    pub fn strategy(&self, id: &str) -> Option<&StrategyMetadata> {
        self.strategies.iter().find(|strategy| strategy.info.id == id)
    }
}

/// What an instance says of itself: one element of the metadata's `strategies`.
pub(crate) fn describe(json: &[u8]) -> Result<StrategyInfo> {
    let wrong = |what: String| {
        Error::new(ErrorKind::InvalidData, what)
            .with_help("this is a fault of the plugin: describe writes an element of the metadata's strategies")
    };
    let value: Value = serde_json::from_slice(json).map_err(|e| wrong(format!("not JSON: {e}")))?;
    let raw: RawStrategy = params::parse(&value).map_err(|e| wrong(e.to_string()))?;
    Ok(raw.check("").map_err(wrong)?.info)
}

/// Before everything else, because another major may have other keys.
fn check_abi(value: &Value) -> Result<()> {
    let number = |index: usize| value.get("abi")?.get(index)?.as_u64();
    let (Some(major), Some(minor)) = (number(0), number(1)) else { return Ok(()) };
    if major == u64::from(ABI_MAJOR) && minor <= u64::from(ABI_MINOR) {
        return Ok(());
    }
    let help = if major < u64::from(ABI_MAJOR) {
        "rebuild the plugin with a newer SDK"
    } else {
        "use a newer logitfuse, or rebuild the plugin with an older SDK"
    };
    let spoken =
        if ABI_MINOR == 0 { format!("{ABI_MAJOR}.0") } else { format!("{ABI_MAJOR}.0 to {ABI_MAJOR}.{ABI_MINOR}") };
    Err(Error::new(ErrorKind::Incompatible, format!("built for ABI {major}.{minor}, and this host speaks {spoken}"))
        .with_help(help))
}

impl Raw {
    fn check(self) -> Result<Metadata, String> {
        let plugin = self.plugin;
        name("/plugin/id", &plugin.id)?;
        if self.strategies.is_empty() {
            return Err("/strategies: there is none".to_owned());
        }
        few("/strategies", self.strategies.len(), MOST)?;
        let mut strategies: Vec<StrategyMetadata> = Vec::new();
        for (index, strategy) in self.strategies.into_iter().enumerate() {
            let at = format!("/strategies/{index}");
            if strategies.iter().any(|other| other.info.id == strategy.id) {
                return Err(format!("{at}/id: {} is there twice", strategy.id));
            }
            strategies.push(strategy.check(&at)?);
        }
        let text = |s: String| text::printable(s.as_bytes());
        Ok(Metadata {
            abi: self.abi,
            id: plugin.id,
            version: text(plugin.version),
            license: text(plugin.license),
            sdk: text(plugin.sdk),
            url: text(plugin.url),
            strategies,
        })
    }
}

impl RawStrategy {
    fn check(self, at: &str) -> Result<StrategyMetadata, String> {
        name(&format!("{at}/id"), &self.id)?;
        few(&format!("{at}/trace"), self.trace.len(), MOST)?;
        few(&format!("{at}/laws"), self.laws.len(), MOST)?;
        few(&format!("{at}/capabilities"), self.capabilities.len(), MOST)?;
        let roles = roles(&format!("{at}/roles"), self.roles)?;
        if let Some(lead) = &self.lead
            && !roles.iter().any(|role| role.name == *lead && role.arity == Arity { min: 1, max: Some(1) })
        {
            return Err(format!(
                "{at}/lead: {} is no role that exactly one source takes",
                text::printable(lead.as_bytes())
            ));
        }
        let calibration = match self.calibration {
            Some(raw) => Some(raw.check(&format!("{at}/calibration"), &roles)?),
            None => None,
        };
        let mut trace = Vec::new();
        for (index, column) in self.trace.into_iter().enumerate() {
            name(&format!("{at}/trace/{index}/name"), &column.name)?;
            trace.push(TraceColumn::new(&column.name, &text::printable(column.unit.as_bytes())));
        }
        let mut info = StrategyInfo::new(&self.id, roles)
            .with_summary(&text::printable(self.summary.as_bytes()))
            .with_equation(&lines(&self.equation))
            .with_reference(&text::printable(self.reference.as_bytes()));
        info.laws = self.laws.iter().map(|law| Law::from(text::printable(law.as_bytes()).as_str())).collect();
        info.trace = trace;
        info.lead_role = self.lead;
        info.prompt = match self.prompt {
            RawPrompt::End => PromptReading::End,
            RawPrompt::LogProbs => PromptReading::LogProbs,
            RawPrompt::Rows => PromptReading::Rows,
        };
        info.calibration = calibration;
        let params =
            self.params.unwrap_or_else(|| serde_json::json!({ "type": "object", "additionalProperties": false }));
        let schema = Schema::new(&params).map_err(|what| format!("{at}/params{what}"))?;
        info.params_schema = params.to_string();
        Ok(StrategyMetadata { info, capabilities: self.capabilities, schema })
    }
}

impl RawCalibration {
    fn check(self, at: &str, roles: &[RoleSpec]) -> Result<CalibrationSpec, String> {
        let stranger = |name: &&String| !roles.iter().any(|role| role.name == **name);
        if let Some(name) = [&self.role].into_iter().chain(&self.rows_of).find(stranger) {
            return Err(format!("{at}: {} is none of the roles", text::printable(name.as_bytes())));
        }
        few(&format!("{at}/rows_of"), self.rows_of.len(), MOST_ROLES)?;
        if self.rows_of.is_empty() {
            return Err(format!("{at}/rows_of: there is none"));
        }
        if self.prompts == 0 {
            return Err(format!("{at}/prompts: must be 1 or more"));
        }
        let Self { role, rows_of, prompts, required } = self;
        let spec = CalibrationSpec::new(&role, rows_of, prompts);
        Ok(if required { spec.required() } else { spec })
    }
}

fn roles(at: &str, raw: Vec<RawRole>) -> Result<Vec<RoleSpec>, String> {
    few(at, raw.len(), MOST_ROLES)?;
    let mut roles: Vec<RoleSpec> = Vec::new();
    for (index, role) in raw.into_iter().enumerate() {
        name(&format!("{at}/{index}/name"), &role.name)?;
        if role.max.is_some_and(|max| max < role.min || max == 0) {
            return Err(format!("{at}/{index}/max: below min, or 0"));
        }
        if roles.iter().any(|other| other.is_named(&role.name)) {
            return Err(format!("{at}/{index}/name: {} is there twice", role.name));
        }
        few(&format!("{at}/{index}/aliases"), role.aliases.len(), MOST_ROLES)?;
        for (alias, text) in role.aliases.iter().enumerate() {
            name(&format!("{at}/{index}/aliases/{alias}"), text)?;
        }
        let summary = text::printable(role.summary.as_bytes());
        let mut spec = RoleSpec::new(&role.name, Arity { min: role.min, max: role.max }).with_summary(&summary);
        spec.aliases = role.aliases;
        roles.push(spec);
    }
    if roles.is_empty() { Err(format!("{at}: there is none")) } else { Ok(roles) }
}

/// Lists are compared item by item, and a file of some megabytes could hold very many.
fn few(at: &str, count: usize, most: usize) -> Result<(), String> {
    if count <= most { Ok(()) } else { Err(format!("{at}: there are {count}, and {most} are allowed")) }
}

/// Names go into TOML keys, file names and columns of tables.
fn name(at: &str, name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=100).contains(&name.len())
        && name.chars().all(fits)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(format!("{at}: {:?} is not made of letters, digits, `-`, `_` and `.`", text::printable(name.as_bytes())))
}

/// An equation may have several lines.
fn lines(text: &str) -> String {
    text.lines().map(|line| text::printable(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(strategies: &Value) -> Result<Metadata> {
        let plugin = json!({ "id": "x", "version": "1" });
        let text = json!({ "abi": [1, 0], "plugin": plugin, "strategies": strategies }).to_string();
        Metadata::parse(&[MAGIC, text.as_bytes()].concat())
    }

    fn strategy(params: &Value) -> Value {
        json!({ "id": "s", "roles": [{ "name": "base", "min": 1, "max": 1 }], "params": params })
    }

    /// Parameters that refer to themselves: allowed where a value may end, refused where none does, and checked in bounded time.
    #[test]
    fn parameters_that_refer_to_themselves_end() {
        let required = json!({ "type": "object", "required": ["a"], "properties": { "a": { "$ref": "#" } } });
        let said = parsed(&json!([strategy(&required)])).unwrap_err().to_string();
        assert_eq!(
            said,
            "metadata: /strategies/0/params/properties/a: is required within itself, so that no parameters fulfil it"
        );
        let circle = json!({ "type": "object", "$defs": { "a": { "$ref": "#/$defs/a" } }, "properties": { "a": { "$ref": "#/$defs/a" } } });
        let said = parsed(&json!([strategy(&circle)])).unwrap_err().to_string();
        assert!(said.ends_with("/$ref: leads nowhere in this schema, or in a circle"), "{said}");
        let maze = json!({ "type": "object", "allOf": [{ "$ref": "#" }, { "$ref": "#" }] });
        let metadata = parsed(&json!([strategy(&maze)])).unwrap();
        let said = metadata.strategies[0].check_params(&json!({})).unwrap_err().to_string();
        assert!(said.contains("refers to itself too often"), "{said}");
        let tree = json!({ "type": "object", "additionalProperties": { "$ref": "#" } });
        let metadata = parsed(&json!([strategy(&tree)])).unwrap();
        assert!(metadata.strategies[0].check_params(&json!({ "a": { "b": {} } })).is_ok());
    }

    #[test]
    fn long_lists_are_refused_before_they_are_compared() {
        let many = vec![strategy(&json!({ "type": "object" })); 300];
        let said = parsed(&json!(many)).unwrap_err().to_string();
        assert_eq!(said, "metadata: /strategies: there are 300, and 256 are allowed");
        let role = |n: usize| json!({ "name": format!("r{n}"), "min": 1 });
        let roles: Vec<Value> = (0..100).map(role).collect();
        let said = parsed(&json!([{ "id": "s", "roles": roles }])).unwrap_err().to_string();
        assert_eq!(said, "metadata: /strategies/0/roles: there are 100, and 64 are allowed");
    }
}
