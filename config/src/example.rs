//! Experiments to start from.

use std::fmt::Write;

use logitfuse_core::StrategyInfo;
use serde_json::Value;

use logitfuse_pipeline::parameters;

/// The TOML of a small experiment with this strategy, or with this wrapper around proxy tuning: every role has a source,
/// and every parameter that is a number, a word or a truth value by default is that.
///
/// ```
/// use logitfuse_config::{Config, example};
/// use logitfuse_pipeline::{built_in, configured};
///
/// for info in built_in() {
///     let config = Config::from_toml(&example(&info))?;
///     assert_eq!(configured(&config.strategy)?.info().id, info.id);
/// }
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub fn example(info: &StrategyInfo) -> String {
    // Two prompts of one model; everything else is several models with one prompt.
    let in_context = info.id == "in-context";
    let wraps = info.roles.is_empty();
    let mut toml = "schema = 1\n\n[run]\n".to_owned();
    toml += if in_context {
        "data = \"data.jsonl\"  # {\"passage\": \"…\", \"question\": \"…\"} on every line\n"
    } else {
        "prompts = [\"What is the capital of France?\"]\n"
    };
    let roles =
        if wraps { vec!["base", "expert", "anti"] } else { info.roles.iter().map(|r| r.name.as_str()).collect() };
    for role in roles {
        let _ = write!(toml, "\n[sources.{role}]\nmodel = \"models/{}\"\n", if in_context { "one" } else { role });
        if in_context {
            let prompt = if role == "base" { r"{{ passage }}\n\n{{ question }}" } else { "{{ question }}" };
            let _ = writeln!(toml, "user = \"{prompt}\"");
        }
    }
    let _ = write!(toml, "\n[strategy]\nuse = \"{}\"\n", if wraps { "static-proxy" } else { &info.id });
    if let Some(several) = info.roles.iter().find(|role| role.arity.max.is_none()) {
        let _ = writeln!(toml, "# several: roles = {{ {0} = [\"{0}\", \"another\"] }}", several.name);
    }
    let mut lines: Vec<String> = parameters(info)
        .iter()
        .filter(|p| !p.name.contains('.') && !matches!(p.default, Value::Null | Value::Array(_) | Value::Object(_)))
        // TOML writes words, numbers and truth values as JSON does.
        .map(|p| format!("{} = {}\n", p.name, p.default))
        .collect();
    if info.id == "gate" {
        // By default it has no condition, and without one it is no gate.
        lines.insert(0, "max_prob = 0.3\n".to_owned());
    }
    if !lines.is_empty() {
        let table = if wraps { &info.id } else { "params" };
        let _ = write!(toml, "\n[strategy.{table}]\n{}", lines.concat());
    }
    toml
}
