//! Jinja as chat templates expect it: the environment that Python's `transformers` renders them in.

mod bounds;
mod filters;
mod guard;
mod json;
mod methods;
mod print;
mod source;
mod strings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use logitfuse_core::{Error, ErrorKind, Result};
use minijinja::{Environment, ErrorKind as JinjaKind, UndefinedBehavior, Value, syntax::SyntaxConfig};

use self::source::Prepared;
pub(crate) use self::{bounds::STEPS, json::to_json, print::float as print_float, source::MAX_BYTES};

/// The name under which the only template of an environment is stored.
const NAME: &str = "template";

/// Bytes of code that cannot nest values deep enough to matter if nothing in it repeats.
const SHORT: usize = 1024;

/// A compiled template with what Python's Jinja would give it.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    /// What was compiled: what was written, in the engine's words.
    source: String,
    /// Whether it may make values that need a stack of their own.
    may_nest: bool,
    steps: u64,
}

impl Template {
    /// A chat template: the environment is that of `transformers`.
    pub(crate) fn chat(origin: &str, text: &str) -> Result<Self> {
        let prepared = source::prepare(text).map_err(|e| e.into_error(origin, ErrorKind::InvalidData))?;
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let compiled = syntax.and_then(|syntax| {
            let mut environment = environment(syntax);
            environment.add_function("raise_exception", raise_exception);
            environment.add_filter("tojson", json::tojson);
            Self::compile(environment, prepared)
        });
        compiled.map_err(|e| error(origin, e))
    }

    /// A text with places for fields, all of which must be there. `error` has the words for what is wrong with it.
    pub(crate) fn prompt(
        origin: &str,
        text: &str,
        error: impl FnOnce(&str, minijinja::Error) -> Error,
    ) -> Result<Self> {
        let prepared = source::prepare(text).map_err(|e| e.into_error(origin, ErrorKind::InvalidConfig))?;
        // A prompt's last newline is the user's, not the file's.
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        let compiled = syntax.and_then(|syntax| {
            let mut environment = environment(syntax);
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            environment.add_filter("tojson", json::jinja_tojson);
            Self::compile(environment, prepared)
        });
        compiled.map_err(|e| error(origin, e))
    }

    fn compile(mut environment: Environment<'static>, prepared: Prepared) -> Result<Self, minijinja::Error> {
        let may_nest = prepared.repeats || prepared.code > SHORT;
        environment.add_template_owned(NAME, prepared.text.clone())?;
        Ok(Self { environment, source: prepared.text, may_nest, steps: STEPS })
    }

    /// What was compiled.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The variables that the template reads and does not set itself.
    pub(crate) fn variables(&self) -> BTreeSet<String> {
        let template = self.environment.get_template(NAME);
        let mut names: BTreeSet<String> =
            template.map(|template| template.undeclared_variables(false)).into_iter().flatten().collect();
        for (function, _) in self.environment.globals() {
            names.remove(function);
        }
        names
    }

    /// Makes `strftime_now` answer with this date and time.
    pub(crate) fn set_now(&mut self, now: jiff::civil::DateTime) {
        self.environment.add_function("strftime_now", move |format: &str| {
            jiff::fmt::strtime::format(format, now)
                .map_err(|e| minijinja::Error::new(JinjaKind::InvalidOperation, e.to_string()))
        });
    }

    /// Renders it. For a conversation that is long by itself it may take `more` steps.
    pub(crate) fn render(&self, context: Value, more: u64) -> Result<String, minijinja::Error> {
        let render = |environment: &Environment<'static>| environment.get_template(NAME)?.render(context);
        if more < STEPS / 10 {
            return self.run(render);
        }
        let mut longer = self.clone();
        longer.steps += more;
        longer.environment.set_fuel(Some(longer.steps));
        longer.run(render)
    }

    /// Runs a call where what the template makes has stack enough.
    pub(crate) fn run<T: Send>(
        &self,
        call: impl FnOnce(&Environment<'static>) -> Result<T, minijinja::Error> + Send,
    ) -> Result<T, minijinja::Error> {
        if self.may_nest { bounds::with_stack(self.steps, || call(&self.environment)) } else { call(&self.environment) }
    }
}

fn environment(syntax: SyntaxConfig) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    // An error would keep the variables at hand where it arose, however deep they are.
    environment.set_debug(false);
    environment.set_fuel(Some(STEPS));
    environment.set_unknown_method_callback(methods::method);
    filters::add(&mut environment);
    environment
}

/// A template's error as an error of logitfuse, with the line that failed.
pub(crate) fn error(origin: &str, e: minijinja::Error) -> Error {
    // An exception that the template raises on purpose lies below the call that raised it.
    let line = e.line().map_or_else(String::new, |line| format!("line {line}: "));
    let raised = e.detail().and_then(|detail| detail.strip_prefix(RAISED));
    let (kind, message, help) = match (raised, e.kind()) {
        (Some(message), _) => (
            ErrorKind::InvalidConfig,
            format!("the chat template refuses the messages: {message}"),
            "change the messages so that the template accepts them, or set a template of your own".to_owned(),
        ),
        (_, JinjaKind::OutOfFuel) => (
            ErrorKind::InvalidData,
            format!("the chat template does not come to an end within {STEPS} steps"),
            "the template loops, or it is not meant for chats; set a template of your own (docs/running.md lists the \
             bounds)"
                .to_owned(),
        ),
        (_, JinjaKind::UnknownFunction) if e.detail().is_some_and(|detail| detail.contains("strftime_now")) => (
            ErrorKind::InvalidConfig,
            "the chat template asks for the current date".to_owned(),
            "set a date, such as 2025-01-31: a prompt that changes from day to day cannot be reproduced".to_owned(),
        ),
        (_, kind) => (
            if kind == JinjaKind::SyntaxError { ErrorKind::InvalidData } else { ErrorKind::InvalidConfig },
            format!(
                "the chat template failed: {}",
                e.detail().map_or_else(|| kind.to_string(), |d| format!("{kind}: {d}"))
            ),
            "repair the template at that line, or set a template of your own".to_owned(),
        ),
    };
    Error::new(kind, format!("{origin}: {line}{message}")).with_help(help).with_source(e)
}

/// Marks the message of `raise_exception` among the details of other errors.
const RAISED: &str = "raised: ";

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(minijinja::Error::new(JinjaKind::InvalidOperation, format!("{RAISED}{message}")))
}
