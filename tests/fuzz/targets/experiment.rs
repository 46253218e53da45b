//! Experiments that are written by the schema of their keys: tables, names and values in their places, with now and then one
//! that is not. What random text reaches once in a million cases, sweeps over variants on tasks, is here in most.

#![no_main]

#[path = "laws.rs"]
mod laws;

use std::{fmt::Write, sync::LazyLock};

use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};
use logitfuse_config::{Overrides, json_schema};
use serde_json::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);

/// Tables within tables.
const DEPTH: usize = 7;
const NAMES: &[&str] = &["base", "expert", "anti", "a", "b[x=1]", "ä/b", "", "t", "none", "prompt_lookup"];
const TEXTS: &[&str] = &[
    "",
    "base",
    "expert",
    "a",
    "t",
    "none",
    "static-proxy",
    "dynamic-kl",
    "in-context",
    "plugin:x",
    "model",
    "L",
    "x.jsonl",
    "{{ prompt }}",
    "{{ x",
    "{% for i in range(9) %}{{ i }}{% endfor %}",
    "exact_match",
    "acc,none",
    "(a+)+$",
    "\\d+(",
    "\n\n",
    "é\u{301}\u{202e}",
    "a\"b'c",
    "2025-01-31",
    "take_first",
    "regex",
];
const PATHS: &[&str] = &[
    "run.temperature",
    "run.top_p",
    "strategy.params.alpha",
    "strategy.use",
    "sources.base.model",
    "run",
    "zip",
    "a.b.c",
    "strategy.\"params\".w",
    "",
    "run..x",
    "tasks.t.limit",
    "strategy.roles.base",
];
const INTEGERS: &[i64] = &[0, 1, -1, 2, 3, 16, 10_000, 4_294_967_295, i64::MAX, i64::MIN];
const NUMBERS: &[&str] = &["0.0", "1.0", "0.5", "-0.5", "1e308", "-1e-308", "nan", "inf", "-inf", "2.0"];

struct Writer<'a, 'u> {
    u: &'a mut Unstructured<'u>,
    out: String,
}

impl Writer<'_, '_> {
    fn file(&mut self) -> Result<()> {
        let properties = SCHEMA["properties"].as_object().expect("a schema of a table");
        for (key, schema) in properties.iter().filter(|(key, _)| *key != "extends") {
            let needed = matches!(key.as_str(), "schema" | "sources");
            if needed || self.u.ratio(2, 5)? {
                let _ = write!(self.out, "{key} = ");
                if key == "schema" {
                    self.out.push('1')
                } else {
                    self.value(schema, 0)?
                }
                self.out.push('\n');
            }
        }
        Ok(())
    }

    fn value(&mut self, schema: &'static Value, depth: usize) -> Result<()> {
        let schema = resolved(schema);
        // Something else than what belongs there.
        if self.u.ratio(1, 64)? {
            return self.anything(depth);
        }
        if let Some(choices) = schema["enum"].as_array() {
            let choice = self.u.choose(choices)?.as_str().unwrap_or_default().to_owned();
            return self.text(&choice);
        }
        if let Some(one) = schema.get("const") {
            let one = one.as_str().unwrap_or_default().to_owned();
            return self.text(&one);
        }
        for several in ["anyOf", "oneOf"] {
            if let Some(several) = schema[several].as_array() {
                let one = self.u.choose(several)?;
                return self.value(one, depth + 1);
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => self.u.choose(kinds)?.as_str().unwrap_or_default(),
            kind => kind.as_str().unwrap_or_default(),
        };
        match kind {
            "string" => {
                let text = *self.u.choose(TEXTS)?;
                self.text(text)
            }
            "integer" => {
                let _ = write!(self.out, "{}", self.u.choose(INTEGERS)?);
                Ok(())
            }
            "number" => {
                self.out.push_str(self.u.choose(NUMBERS)?);
                Ok(())
            }
            "boolean" => {
                self.out.push_str(if self.u.arbitrary()? { "true" } else { "false" });
                Ok(())
            }
            "array" if depth < DEPTH => {
                self.out.push('[');
                for _ in 0..self.u.int_in_range(0..=3)? {
                    self.value(&schema["items"], depth + 1)?;
                    self.out.push(',');
                }
                self.out.push(']');
                Ok(())
            }
            "object" if depth < DEPTH => self.table(schema, depth),
            _ => self.anything(depth),
        }
    }

    fn table(&mut self, schema: &'static Value, depth: usize) -> Result<()> {
        let mut entries: Vec<(String, Option<&'static Value>)> = Vec::new();
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let needed = schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == key));
            if (needed && self.u.ratio(15, 16)?) || self.u.ratio(1, 4)? {
                entries.push((key.clone(), Some(property)));
            }
        }
        let more = &schema["additionalProperties"];
        let sweeps = more["type"] == "array" || schema["properties"].get("zip").is_some();
        if more.is_object() || *more == Value::Bool(true) {
            for _ in 0..self.u.int_in_range(0..=3)? {
                let name = *self.u.choose(if sweeps { PATHS } else { NAMES })?;
                entries.push((name.to_owned(), more.is_object().then_some(more)));
            }
        } else if self.u.ratio(1, 32)? {
            entries.push(((*self.u.choose(NAMES)?).to_owned(), None));
        }
        self.out.push('{');
        let mut written: Vec<String> = Vec::new();
        for (key, property) in entries {
            // TOML refuses a key that is there twice, and so nothing behind it would be seen.
            if written.contains(&key) {
                continue;
            }
            if !written.is_empty() {
                self.out.push_str(", ");
            }
            self.text(&key)?;
            self.out.push_str(" = ");
            match property {
                Some(property) => self.value(property, depth + 1)?,
                None => self.anything(depth + 1)?,
            }
            written.push(key);
        }
        self.out.push('}');
        Ok(())
    }

    fn anything(&mut self, depth: usize) -> Result<()> {
        let kinds = if depth < DEPTH { 9 } else { 6 };
        match self.u.int_in_range(0..=kinds)? {
            0 => self.out.push_str(self.u.choose(NUMBERS)?),
            1 => {
                let _ = write!(self.out, "{}", self.u.choose(INTEGERS)?);
            }
            2 => self.out.push_str("true"),
            3 => self.out.push_str("2025-01-31"),
            4 => self.out.push_str("99999999999999999999"),
            5 | 6 => {
                let text = *self.u.choose(TEXTS)?;
                self.text(text)?;
            }
            7 => self.out.push_str("[]"),
            8 => self.out.push_str("{}"),
            _ => {
                self.out.push('[');
                self.anything(depth + 1)?;
                self.out.push(']');
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<()> {
        // JSON's escapes are TOML's, but for that of DEL.
        self.out.push_str(&Value::from(text).to_string());
        Ok(())
    }
}

fn resolved(schema: &'static Value) -> &'static Value {
    let all = schema["allOf"].as_array().and_then(|all| all.first()).unwrap_or(schema);
    match all["$ref"].as_str().and_then(|path| SCHEMA.pointer(path.trim_start_matches('#'))) {
        Some(referred) => resolved(referred),
        None => all,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let mut writer = Writer { u: &mut u, out: String::new() };
    if writer.file().is_err() {
        return;
    }
    let toml = writer.out;
    let line = |u: &mut Unstructured<'_>| Some(format!("{}={}", u.choose(PATHS).ok()?, u.choose(NUMBERS).ok()?));
    let set = if u.ratio(1, 8).unwrap_or(false) { line(&mut u).into_iter().collect() } else { Vec::new() };
    laws::hold(&toml, &Overrides { set, unset: Vec::new() });
});
