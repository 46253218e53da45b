//! Group config: parameters that must be taken, and parameters that must not.

use logitfuse_core::{ErrorKind, FusionStrategy};
use serde_json::json;

use crate::{Outcome, context::unknown, sample_params, subject::Subject};
use logitfuse_plugin_host::printable;

pub(crate) const CASES: &[&str] = &["defaults", "valid", "invalid", "garbage", "roles"];

pub(crate) fn run(name: &str, subject: &Subject) -> Outcome {
    match name {
        "defaults" => defaults(subject),
        "valid" => valid(subject),
        "invalid" => invalid(subject),
        "garbage" => garbage(subject),
        "roles" => roles(subject),
        _ => unknown(name),
    }
}

fn defaults(subject: &Subject) -> Outcome {
    match subject.strategy() {
        Ok(_) => Outcome::passed(),
        Err(e) => Outcome::Failed(format!("{} is refused: {e}", subject.params)),
    }
}

/// A schema cannot say everything, so a refusal is no fault; but one that could be said should be.
fn valid(subject: &Subject) -> Outcome {
    let mut rng = sample_params::SplitMix64::new(subject.seed);
    let tries = subject.cases;
    let mut refusals = Vec::new();
    for _ in 0..tries {
        let params = sample_params::allowed(subject.described.schema(), &subject.params, &mut rng);
        match subject.create(&params) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::InvalidConfig => refusals.push(format!("{params} ({e})")),
            Err(e) => return Outcome::Failed(format!("{params}: no configuration error, but {e}")),
        }
    }
    match refusals.first() {
        None => Outcome::Passed(format!("{tries} sets of parameters")),
        Some(first) => Outcome::Warning(format!(
            "{} of {tries} sets that the schema allows are refused, as {first}",
            refusals.len()
        )),
    }
}

fn invalid(subject: &Subject) -> Outcome {
    let mut vague = None;
    let wrong = sample_params::refused(subject.described.schema(), &subject.params);
    for (params, pointer) in &wrong {
        match subject.create(params) {
            Ok(_) => return Outcome::Failed(format!("{params} is accepted, and {pointer} breaks the schema")),
            Err(e) if e.kind() != ErrorKind::InvalidConfig => {
                return Outcome::Failed(format!("{params}: no configuration error, but {e}"));
            }
            Err(e) => {
                // A form of several may be refused as a whole.
                let said = e.to_string();
                let at = said.split(':').next().unwrap_or_default().to_owned();
                let related = at.starts_with('/') && (at.starts_with(pointer.as_str()) || pointer.starts_with(&at));
                if !related {
                    vague =
                        vague.or(Some(format!("{params}: the error should point at {pointer}, and reads {said:?}")));
                }
            }
        }
    }
    match vague {
        None => Outcome::Passed(format!("{} sets of parameters", wrong.len())),
        Some(vague) => Outcome::Warning(vague),
    }
}

/// JSON that is no table. The host would not send it; a binding might.
fn garbage(subject: &Subject) -> Outcome {
    for params in [json!(null), json!([]), json!("x"), json!(7), json!([{}])] {
        if subject.create(&params).is_ok() {
            return Outcome::Failed(format!("{params} is accepted as parameters"));
        }
    }
    Outcome::passed()
}

/// An instance must describe itself as its metadata do, or as a variant of it.
fn roles(subject: &Subject) -> Outcome {
    let Ok(strategy) = subject.strategy() else { return Outcome::Skipped("there is no instance to ask".to_owned()) };
    let known = |name: &str| subject.described.info.roles.iter().any(|role| role.name == name);
    let stranger = strategy.info().roles.iter().find(|role| !known(&role.name));
    if let Some(role) = stranger {
        return Outcome::Failed(format!(
            "describe names the role {}, which the metadata do not",
            printable(role.name.as_bytes())
        ));
    }
    if let Err(what) = crate::subject::role_counts(&strategy) {
        return Outcome::Failed(what);
    }
    if strategy.start(&crate::subject::session(&Vec::new(), 7)).is_ok() {
        return Outcome::Warning("a session without any rows is accepted".to_owned());
    }
    Outcome::passed()
}
