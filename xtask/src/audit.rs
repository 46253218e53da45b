//! Licences, duplicates and sources of the dependencies, as deny.toml wants them. A network is needed only for crates that were
//! never downloaded.
//!
//! cargo-deny does the same and more, but takes minutes to build and fetches its databases. What this leaves to it is said
//! each time.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::steps::{cargo, output_of, root};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Skip {
    /// `name@version`
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

/// Fails with everything that is not as deny.toml wants it.
pub(crate) fn run() -> Result<()> {
    let deny: Deny = toml(&read("deny.toml")?, "deny.toml")?;
    let lock: Lock = toml(&read("Cargo.lock")?, "Cargo.lock")?;
    let packages = packages()?;
    let mut found = licences(&deny.licenses, &packages);
    found.extend(duplicates(&deny.bans, &lock));
    found.extend(sources(&lock));
    for one in &found {
        eprintln!("audit: {one}");
    }
    if !found.is_empty() {
        bail!("{} findings: change the dependency, or deny.toml with a reason", found.len());
    }
    let foreign = lock.package.iter().filter(|one| one.source.is_some()).count() - packages.len();
    eprintln!(
        "audit: the licences of {} crates, one version of each, one registry; not looked at: the licences of {foreign} crates for \
         other platforms, and security advisories (`cargo deny check` has both)",
        packages.len()
    );
    Ok(())
}

fn read(name: &str) -> Result<String> {
    let path = root().join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn toml<T: for<'de> Deserialize<'de>>(text: &str, name: &str) -> Result<T> {
    toml::from_str(text).with_context(|| name.to_owned())
}

/// The crates of others that are built for this platform, everything switched on, tests and build scripts included.
fn packages() -> Result<Vec<Package>> {
    let version = output_of(&mut cargo(["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("`cargo -vV` names no host")?;
    let of_host = ["metadata", "--format-version", "1", "--locked", "--all-features", "--filter-platform", host];
    let metadata: Metadata = serde_json::from_str(&output_of(&mut cargo(of_host))?)?;
    let used: BTreeSet<&str> = metadata.resolve.nodes.iter().map(|node| node.id.as_str()).collect();
    let is_foreign = |package: &Package| package.source.is_some() && used.contains(package.id.as_str());
    Ok(metadata.packages.iter().filter(|package| is_foreign(package)).cloned().collect())
}

fn licences(licenses: &Licenses, packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Package { name, version, license, .. } in packages {
        match license {
            None => wrong.push(format!("{name} {version}: names no licence")),
            Some(text) => match Expression::parse(text) {
                None => wrong.push(format!("{name} {version}: `{text}` is no SPDX expression")),
                Some(licence) if licence.is_met(&licenses.allow) => {}
                Some(_) => wrong.push(format!("{name} {version}: {text} is not allowed")),
            },
        }
    }
    wrong
}

fn duplicates(bans: &Bans, lock: &Lock) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in &lock.package {
        versions.entry(&one.name).or_default().push(&one.version);
    }
    let skipped: BTreeSet<&str> = bans.skip.iter().map(|skip| skip.name.as_str()).collect();
    let mut wrong = Vec::new();
    let mut several = BTreeSet::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let named: Vec<String> = versions.iter().map(|version| format!("{name}@{version}")).collect();
        let left: Vec<&String> = named.iter().filter(|one| !skipped.contains(one.as_str())).collect();
        if left.len() > 1 {
            wrong.push(format!("{name}: versions {}", versions.join(" and ")));
        }
        several.extend(named.iter().cloned());
    }
    let stale = skipped.iter().filter(|skip| !several.contains(**skip));
    wrong.extend(stale.map(|skip| format!("deny.toml skips {skip}, of which there are no two versions")));
    wrong
}

/// All from one registry, which Cargo.lock names, and nothing from a repository.
fn sources(lock: &Lock) -> Vec<String> {
    let registries: BTreeSet<&str> = lock.package.iter().filter_map(|one| one.source.as_deref()).collect();
    let strange = |one: &&Locked| one.source.as_deref().is_some_and(|source| !source.starts_with("registry+"));
    let mut wrong: Vec<String> = lock
        .package
        .iter()
        .filter(strange)
        .map(|one| format!("{} {}: comes from no registry", one.name, one.version))
        .collect();
    if registries.len() > 1 {
        wrong.push(format!("crates come from {} places", registries.len()));
    }
    wrong
}

/// A licence in the words of SPDX: `MIT OR Apache-2.0`, `(A OR B) AND C`, `A WITH exception`; older crates write `A/B`.
enum Expression {
    Licence(String),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut words = text.split_whitespace().peekable();
        let whole = Self::any(&mut words, 0)?;
        words.next().is_none().then_some(whole)
    }

    fn any<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Option<Self> {
        let mut all = vec![Self::all(words, depth)?];
        while words.next_if_eq(&"OR").is_some() {
            all.push(Self::all(words, depth)?);
        }
        Some(Self::Any(all))
    }

    fn all<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Option<Self> {
        let mut all = vec![Self::one(words, depth)?];
        while words.next_if_eq(&"AND").is_some() {
            all.push(Self::one(words, depth)?);
        }
        Some(Self::All(all))
    }

    fn one<'a>(words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>, depth: usize) -> Option<Self> {
        let word = words.next()?;
        if word == "(" {
            let inner = if depth < 8 { Self::any(words, depth + 1)? } else { return None };
            return words.next_if_eq(&")").map(|_| inner);
        }
        if matches!(word, ")" | "AND" | "OR" | "WITH") {
            return None;
        }
        Some(Self::Licence(match words.next_if_eq(&"WITH") {
            Some(_) => format!("{word} WITH {}", words.next()?),
            None => word.to_owned(),
        }))
    }

    fn is_met(&self, allowed: &BTreeSet<String>) -> bool {
        match self {
            Self::Licence(name) => allowed.contains(name),
            Self::All(parts) => parts.iter().all(|part| part.is_met(allowed)),
            Self::Any(parts) => parts.iter().any(|part| part.is_met(allowed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_checkout_is_as_deny_toml_wants_it() {
        run().unwrap();
    }

    fn package(license: Option<&str>) -> Package {
        let text = |text: &str| text.to_owned();
        Package { id: text("x"), name: text("x"), version: text("1.0.0"), license: license.map(text), source: None }
    }

    #[test]
    fn licences_are_read_as_spdx_writes_them() {
        let licenses = Licenses { allow: ["MIT", "Zlib", "A WITH e"].map(str::to_owned).into() };
        let refused = |text: &str| !licences(&licenses, &[package(Some(text))]).is_empty();
        for allowed in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "MIT AND Zlib", "(GPL-3.0 OR Zlib) AND MIT", "A WITH e"]
        {
            assert!(!refused(allowed), "{allowed}");
        }
        for wrong in [
            "GPL-3.0",
            "GPL-3.0 AND MIT",
            "MIT AND (GPL-3.0 OR BSD)",
            "A",
            "A WITH other",
            "",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Zlib",
            "OR MIT",
            "((((((((((MIT))))))))))",
        ] {
            assert!(refused(wrong), "{wrong}");
        }
        assert_eq!(licences(&licenses, &[package(None)]), ["x 1.0.0: names no licence"]);
    }

    #[test]
    fn duplicates_are_named_and_so_are_reasons_that_have_gone() {
        let locked = |name: &str, version: &str, source: &str| Locked {
            name: name.to_owned(),
            version: version.to_owned(),
            source: Some(source.to_owned()),
        };
        let lock = Lock {
            package: vec![
                locked("a", "1.0.0", "registry+x"),
                locked("a", "2.0.0", "git+y"),
                locked("b", "1.0.0", "registry+x"),
            ],
        };
        let bans = |skip: &[&str]| Bans { skip: skip.iter().map(|&name| Skip { name: name.to_owned() }).collect() };
        assert_eq!(duplicates(&bans(&[]), &lock), ["a: versions 1.0.0 and 2.0.0"]);
        assert_eq!(duplicates(&bans(&["a@1.0.0"]), &lock), Vec::<String>::new());
        assert_eq!(
            duplicates(&bans(&["a@1.0.0", "b@1.0.0"]), &lock),
            ["deny.toml skips b@1.0.0, of which there are no two versions"]
        );
        assert_eq!(sources(&lock), ["a 2.0.0: comes from no registry", "crates come from 2 places"]);
    }
}
