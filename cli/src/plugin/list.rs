//! `logitfuse plugin list` and `show`: bytes are read, nothing is run.

use std::process::ExitCode;

use logitfuse_plugin_host::{Found, PluginFile};
use serde_json::{Value, json};

use super::search::{find, search_path};
use crate::{
    args::{Format, Global},
    output, strategies,
    table::TextTable,
};

pub(crate) fn list(global: &Global, format: Format) -> anyhow::Result<ExitCode> {
    let path = search_path(global);
    let found = path.scan()?;
    if format == Format::Text {
        output::write_all(found.iter().map(lines).collect::<String>().as_bytes())?;
        if found.is_empty() {
            let places = path.places().iter().map(|place| format!("\n  {} ({})", place.folder.display(), place.origin));
            output::say(global.quiet, &format!("no plugin was found in{}", places.collect::<String>()));
        }
    } else {
        let list: Vec<Value> = found.iter().map(entry).collect();
        let places = path.places().iter().map(|place| json!({ "folder": place.folder, "origin": place.origin }));
        let all = json!({ "schema_version": 1, "places": places.collect::<Vec<_>>(), "plugins": list });
        output::json(&all, format == Format::Json)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn show(global: &Global, plugin: &str, format: Format) -> anyhow::Result<ExitCode> {
    let file = find(global, plugin)?;
    if format == Format::Text {
        output::write_all(page(&file).as_bytes())?;
    } else {
        let mut document = document(&file);
        document["schema_version"] = json!(1);
        output::json(&document, format == Format::Json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(found: &Found) -> String {
    let path = found.path.display();
    match &found.plugin {
        Err(e) => {
            let help = e.help().map(|help| format!("\n    help: {help}")).unwrap_or_default();
            format!("error: {e}{help}\n")
        }
        Ok(file) => {
            let (metadata, hash) = (file.metadata(), file.hash().short());
            let head = format!("{} {}  {hash}  {path}\n", metadata.id, metadata.version);
            let strategies =
                metadata.strategies.iter().map(|s| format!("  plugin:{}  {}\n", s.info.id, s.info.summary));
            head + &strategies.collect::<String>()
        }
    }
}

fn entry(found: &Found) -> Value {
    let mut entry = match &found.plugin {
        Ok(file) => document(file),
        Err(e) => json!({ "path": found.path, "error": e.to_string(), "help": e.help() }),
    };
    entry["origin"] = json!(found.origin);
    entry
}

fn document(file: &PluginFile) -> Value {
    let metadata = file.metadata();
    let strategies = metadata.strategies.iter().map(|strategy| {
        let mut document = strategies::document(&strategy.info);
        document["capabilities"] = json!(strategy.capabilities);
        document
    });
    json!({
        "path": file.path(),
        "sha256": file.hash().to_string(),
        "abi": [metadata.abi.0, metadata.abi.1],
        "id": metadata.id,
        "version": metadata.version,
        "license": metadata.license,
        "sdk": metadata.sdk,
        "url": metadata.url,
        "libraries": file.dependencies().iter().map(|needed| json!({ "name": needed.name, "system": needed.system }))
            .collect::<Vec<Value>>(),
        "strategies": strategies.collect::<Vec<Value>>(),
    })
}

fn page(file: &PluginFile) -> String {
    let metadata = file.metadata();
    let abi = format!("{}.{}", metadata.abi.0, metadata.abi.1);
    let (path, hash) = (file.path().display().to_string(), file.hash().to_string());
    let needs = file.dependencies().iter().map(|needed| {
        if needed.system { needed.name.clone() } else { format!("{} (not covered by the sha256)", needed.name) }
    });
    let needs = needs.collect::<Vec<String>>().join(", ");
    let facts = [
        ["plugin", metadata.id.as_str()],
        ["version", &metadata.version],
        ["licence", &metadata.license],
        ["built with", &metadata.sdk],
        ["home", &metadata.url],
        ["ABI", &abi],
        ["file", &path],
        ["sha256", &hash],
        ["needs", &needs],
    ];
    let facts = facts.into_iter().filter(|[_, value]| !value.is_empty());
    let mut page = TextTable::new(facts).at_least(0, "built with".len()).to_string();
    for strategy in &metadata.strategies {
        page.push('\n');
        page.push_str(&strategies::page(&strategy.info));
    }
    page
}
