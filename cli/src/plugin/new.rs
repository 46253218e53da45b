//! `logitfuse plugin new`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    args::{
        Global,
        plugin::{Language, NewArgs},
    },
    output,
    plugin::scaffold::Scaffold,
};

pub(crate) fn run(global: &Global, args: &NewArgs) -> anyhow::Result<ExitCode> {
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if args.lang == Language::C && args.source.is_some() {
        return Err(Error::new(ErrorKind::InvalidConfig, "--source: a plugin in C builds on its header alone")
            .with_help("leave it out, or choose --lang rust")
            .into());
    }
    let (scaffold, next) = match args.lang {
        Language::C => (Scaffold::new(&args.name, Language::C)?, "make"),
        Language::Rust => {
            let scaffold = Scaffold::new(&args.name, Language::Rust)?;
            (scaffold.with_sdk(&sdk(args.source.as_deref())?), "cargo build --release")
        }
    };
    for file in scaffold.write(&folder)? {
        output::line(&file.display().to_string())?;
    }
    let readme = folder.join("README.md");
    output::say(global.quiet, &format!("now run `{next}` in there; {} shows the rest", readme.display()));
    Ok(ExitCode::SUCCESS)
}

/// The SDK of the sources that were named, or of those that this program or the working directory lies in.
fn sdk(source: Option<&Path>) -> Result<PathBuf> {
    let within = |folder: &Path| {
        let sdk = folder.join("plugins").join("sdk");
        sdk.join("Cargo.toml").is_file().then(|| std::path::absolute(&sdk).unwrap_or(sdk))
    };
    let help = "get logitfuse's sources, and name their folder with --source";
    if let Some(source) = source {
        return within(source).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{}: there is no plugins/sdk in it", source.display()))
                .with_help(help)
        });
    }
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let found = starts.iter().flatten().flat_map(|start| start.ancestors()).find_map(within);
    found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "the SDK that a plugin in Rust builds on is not here").with_help(help)
    })
}
