//! The strategies that are built in, by id.

use std::{iter, sync::Arc};

use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result, StrategyInfo};
use logitfuse_dynamic_kl::DynamicKl;
use logitfuse_engine::BaseOnly;
use logitfuse_ensemble::{Contrastive, Ensemble, TriMix};
use logitfuse_in_context::InContext;
use logitfuse_static_proxy::StaticProxy;
use logitfuse_task_arithmetic::TaskArithmetic;
use logitfuse_wrappers::{Gate, Schedule};
use serde_json::{Map, Value};

use crate::{Names, PipelineOptions, StrategyConfig, nearest};

type Make = fn(&Value) -> Result<Arc<dyn FusionStrategy>>;

const BUILT_IN: &[(&str, Make)] = &[
    ("none", |params| match params.as_object() {
        Some(params) if !params.is_empty() => {
            let first = params.keys().next().map_or("", String::as_str);
            Err(Error::new(ErrorKind::InvalidConfig, format!("/{first}: strategy `none` has no parameters"))
                .with_help("leave params out, or name another strategy in `use`"))
        }
        _ => Ok(Arc::new(BaseOnly::new())),
    }),
    ("static-proxy", |params| Ok(Arc::new(StaticProxy::from_json(params)?))),
    ("dynamic-kl", |params| Ok(Arc::new(DynamicKl::from_json(params)?))),
    ("in-context", |params| Ok(Arc::new(InContext::from_json(params)?))),
    ("task-arithmetic", |params| Ok(Arc::new(TaskArithmetic::from_json(params)?))),
    ("ensemble", |params| Ok(Arc::new(Ensemble::from_json(params)?))),
    ("contrastive", |params| Ok(Arc::new(Contrastive::from_json(params)?))),
    ("trimix", |params| Ok(Arc::new(TriMix::from_json(params)?))),
];

/// A strategy by its id, with its parameters.
pub fn strategy(id: &str, params: &Value) -> Result<Arc<dyn FusionStrategy>> {
    make_of(id)?(params).map_err(|e| e.context(format!("strategy.params of `{id}`")))
}

/// As [`strategy`]; the message about a parameter begins with its JSON pointer.
pub(crate) fn made(id: &str, params: &Value) -> Result<Arc<dyn FusionStrategy>> {
    make_of(id)?(params)
}

fn make_of(id: &str) -> Result<Make> {
    let Some((_, make)) = BUILT_IN.iter().find(|(known, _)| *known == id) else {
        let known: Vec<_> = BUILT_IN.iter().map(|(id, _)| *id).collect();
        let meant = nearest(id, known.iter().copied()).map_or(String::new(), |one| format!("did you mean `{one}`? "));
        return Err(Error::new(ErrorKind::InvalidConfig, format!("strategy.use: no strategy is called `{id}`"))
            .with_help(format!("{meant}the strategies are {}", known.join(", "))));
    };
    Ok(*make)
}

/// The strategy of a configuration, in its schedule if it has one, and that in its gate if it has one.
///
/// ```
/// use logitfuse_pipeline::{StrategyConfig, configured};
///
/// let mut config = StrategyConfig::default();
/// config.id = Some("static-proxy".to_owned());
/// config.gate = serde_json::json!({ "max_prob": 0.3 }).as_object().cloned();
/// assert_eq!(configured(&config)?.info().id, "static-proxy+gate");
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub fn configured(config: &StrategyConfig) -> Result<Arc<dyn FusionStrategy>> {
    let params = Value::Object(config.params.clone());
    wrapped(config, strategy(config.id.as_deref().unwrap_or("none"), &params)?)
}

/// A strategy in the wrappers of a configuration.
pub fn wrapped(config: &StrategyConfig, strategy: Arc<dyn FusionStrategy>) -> Result<Arc<dyn FusionStrategy>> {
    let value = |params: &Map<String, Value>| Value::Object(params.clone());
    let mut strategy = strategy;
    if let Some(params) = &config.schedule {
        let schedule = Schedule::from_json(&value(params), strategy).map_err(|e| e.context("strategy.schedule"))?;
        strategy = Arc::new(schedule);
    }
    if let Some(params) = &config.gate {
        let gate = Gate::from_json(&value(params), strategy).map_err(|e| e.context("strategy.gate"))?;
        strategy = Arc::new(gate);
    }
    Ok(strategy)
}

/// Whether this is the id of a strategy that is built in.
#[cfg(feature = "plugins")]
pub(crate) fn is_built_in(id: &str) -> bool {
    BUILT_IN.iter().any(|(known, _)| *known == id)
}

/// What the wrappers say of themselves, whatever they wrap; the tables `[strategy.ID]` of a configuration.
pub fn wrappers() -> Vec<StrategyInfo> {
    vec![Schedule::about(), Gate::about()]
}

/// What the built-in strategies say of themselves, each with its default parameters.
pub fn built_in() -> Vec<StrategyInfo> {
    let params = Value::Object(serde_json::Map::new());
    BUILT_IN.iter().filter_map(|(_, make)| make(&params).ok()).map(|s| s.info().clone()).collect()
}

/// The `(role, source)` pairs of an experiment, in the order of the strategy's roles.
pub fn assign(options: &PipelineOptions, info: &StrategyInfo) -> Result<Vec<(String, String)>> {
    let wrong = |message: String, help: String| Err(Error::new(ErrorKind::InvalidConfig, message).with_help(help));
    let known: Vec<_> = info.roles.iter().map(|r| r.name.as_str()).collect();
    let sources: Vec<_> = options.sources.keys().map(String::as_str).collect();
    let unknown = |role: &&String| info.role(role).is_none() && !options.inherited_roles.contains(role.as_str());
    if let Some(role) = options.strategy.roles.keys().find(unknown) {
        let message = format!("strategy.roles: strategy `{}` has no role `{role}`", info.id);
        return wrong(message, format!("its roles are {}", known.join(", ")));
    }
    let mut assigned = Vec::new();
    for spec in &info.roles {
        // A role may be written by its name or an alias, in the table of roles or as the name of a source.
        let mut given = options.strategy.roles.iter().filter(|(role, _)| info.role(role) == Some(spec));
        let first = given.next();
        if let (Some((first, _)), Some((second, _))) = (first, given.next()) {
            let message = format!("strategy.roles.{second}: the role is given as `{first}`, too");
            return wrong(message, format!("list all of its sources in `{}`", spec.name));
        }
        let by_name = || {
            let mut written = iter::once(&spec.name).chain(&spec.aliases);
            let name = written.find(|name| options.sources.contains_key(*name))?;
            Some(Names(vec![name.clone()]))
        };
        let Some(Names(names)) = first.map(|(_, names)| names.clone()).or_else(by_name) else {
            if spec.arity.min == 0 {
                continue;
            }
            // One source and one role need no wiring.
            if let ([only], 1) = (&sources[..], info.roles.len()) {
                assigned.push((spec.name.clone(), (*only).to_owned()));
                continue;
            }
            let message = format!("strategy.roles: strategy `{}` needs a source in role `{}`", info.id, spec.name);
            return wrong(message, format!("set `{} = \"NAME\"`; the sources are {}", spec.name, sources.join(", ")));
        };
        for name in names {
            if !options.sources.contains_key(&name) {
                let message = format!("strategy.roles.{}: there is no source `{name}`", spec.name);
                return wrong(message, format!("the sources are {}", sources.join(", ")));
            }
            assigned.push((spec.name.clone(), name));
        }
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use logitfuse_core::RoleSpec;
    use serde_json::json;

    use super::*;

    fn assigned(roles: &[(&str, &str)], sources: &[&str]) -> Result<Vec<(String, String)>> {
        let source = || serde_json::from_value(json!({ "model": "models/m" })).expect("a source");
        let sources = sources.iter().map(|name| ((*name).to_owned(), source())).collect();
        let mut strategy = StrategyConfig::default();
        for (role, source) in roles {
            strategy.roles.insert((*role).to_owned(), Names(vec![(*source).to_owned()]));
        }
        let roles = [RoleSpec::one("base"), RoleSpec::one("anti").with_alias("anti_expert")];
        assign(&PipelineOptions::new(sources, strategy), &StrategyInfo::new("contrastive", roles))
    }

    #[test]
    fn a_role_may_be_written_by_its_alias() {
        let pair = |role: &str, source: &str| (role.to_owned(), source.to_owned());
        let expected = [pair("base", "large"), pair("anti", "small")];
        for name in ["anti", "anti_expert"] {
            assert_eq!(assigned(&[("base", "large"), (name, "small")], &["large", "small"]).unwrap(), expected);
        }
        let by_source = assigned(&[], &["base", "anti_expert"]).unwrap();
        assert_eq!(by_source, [pair("base", "base"), pair("anti", "anti_expert")]);
        // A source of the role's own name goes before one of its alias.
        assert_eq!(assigned(&[], &["base", "anti", "anti_expert"]).unwrap()[1], pair("anti", "anti"));
    }

    #[test]
    fn a_role_is_not_given_twice() {
        let error = assigned(&[("anti", "a"), ("anti_expert", "b"), ("base", "a")], &["a", "b"]).unwrap_err();
        assert_eq!(error.to_string(), "strategy.roles.anti_expert: the role is given as `anti`, too");
        let error = assigned(&[("amateur", "a"), ("base", "a")], &["a"]).unwrap_err();
        assert_eq!(error.to_string(), "strategy.roles: strategy `contrastive` has no role `amateur`");
        assert_eq!(error.help(), Some("its roles are base, anti"));
    }
}
