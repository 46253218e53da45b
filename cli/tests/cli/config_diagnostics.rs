//! What a user reads when something is wrong with an experiment, word by word: `docs/diagnostics.md` is what this test sees.
//!
//! `LOGITFUSE_BLESS=1 cargo xtask test config_diagnostics` writes the page anew.

use std::{fmt::Write, fs, path::Path, process::Command};

use crate::support::binary;

struct Case {
    title: &'static str,
    /// The first is the experiment.
    files: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
}

const fn case(title: &'static str, files: &'static [(&'static str, &'static str)]) -> Case {
    Case { title, files, flags: &[] }
}

const SOUND: &str = "\
schema = 1
[sources.base]
model = \"models/L\"
[sources.expert]
model = \"models/S-qa\"
[sources.anti]
model = \"models/S\"
[strategy]
use = \"static-proxy\"
";

const CASES: &[Case] = &[
    case(
        "A key with a typo",
        &[("e.toml", "schema = 1\n\n[run]\nmax_new_token = 16\n\n[sources.base]\nmodel = \"models/L\"\n")],
    ),
    case(
        "Several things at once",
        &[(
            "e.toml",
            "schema = 1\n\n[run]\nsede = 7\ntemperature = \"warm\"\ntop_p = 1.5\n\n[source.base]\nmodel = \"models/L\"\n",
        )],
    ),
    case("Not TOML", &[("e.toml", "schema = 1\n[sources.base]\nmodel = models/L\nuser = \"{{ prompt }}\n")]),
    case("A file of a newer version", &[("e.toml", "schema = 2\n[wormhole]\ndepth = 3\n")]),
    case("No version", &[("e.toml", "[sources.base]\nmodel = \"models/L\"\n")]),
    case("Nothing to run", &[("e.toml", "schema = 1\n[run]\nprompts = [\"Hello\"]\n")]),
    case("A source without a model", &[("e.toml", "schema = 1\n[sources.base]\nuser = \"Q: {{ prompt }}\"\n")]),
    case(
        "A word that is none of those allowed",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\noutput_type = \"generate_untill\"\n",
        )],
    ),
    case(
        "A filter that does not exist",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\n[[tasks.qa.filters]]\nname = \"first\"\n\
             filter = [\n    { function = \"remove_whitespace\" },\n    { function = \"take_frist\" },\n]\n",
        )],
    ),
    case("A date where text is meant", &[("e.toml", "schema = 1\n[sources.base]\nmodel = \"L\"\ndate = 2025-01-31\n")]),
    case(
        "A strategy that does not exist",
        &[("e.toml", "schema = 1\n[sources.base]\nmodel = \"L\"\n[strategy]\nuse = \"static-proxi\"\n")],
    ),
    case(
        "A parameter out of range",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[sources.expert]\nmodel = \"S-qa\"\n[sources.anti]\nmodel = \"S\"\n\
                      [strategy]\nuse = \"static-proxy\"\nparams = { alpha = 1.0, plausibility = 2.0 }\n",
        )],
    ),
    case(
        "A parameter out of range, in a file that is extended",
        &[
            ("e.toml", "schema = 1\nextends = [\"family.toml\"]\n[strategy.params]\nalpha = 0.5\n"),
            (
                "family.toml",
                "schema = 1\n[sources.base]\nmodel = \"L\"\n[sources.expert]\nmodel = \"S-qa\"\n[sources.anti]\nmodel = \"S\"\n\
                 [strategy]\nuse = \"static-proxy\"\nparams = { alpha = 1.0, weights = [1.0, \"heavy\"] }\n",
            ),
        ],
    ),
    Case {
        title: "A parameter out of range, on the command line",
        files: &[("e.toml", SOUND)],
        flags: &["--set", "strategy.params.alpha=0.5", "--set", "strategy.params.top_p=0"],
    },
    case(
        "A role without a source",
        &[(
            "e.toml",
            "schema = 1\n[sources.large]\nmodel = \"L\"\n[sources.small]\nmodel = \"S\"\n[strategy]\nuse = \"static-proxy\"\nroles = { base = \"large\", expert = \"smal\" }\n",
        )],
    ),
    case(
        "A model folder that is not there",
        &[("e.toml", "schema = 1\n[run]\nprompts = [\"Hello\"]\n[sources.base]\nmodel = \"models/L\"\n")],
    ),
    case(
        "A target that is no field of the data",
        &[
            (
                "e.toml",
                "schema = 1\n[sources.base]\nmodel = \"models/L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\ntarget = \"anwser\"\n",
            ),
            ("qa.jsonl", "{\"question\": \"1+1?\", \"answer\": 2}\n"),
        ],
    ),
    case(
        "Data that have no end",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"models/L\"\n[tasks.qa]\ndata = \"/dev/zero\"\ntarget = \"answer\"\n",
        )],
    ),
    case(
        "Files that extend each other",
        &[
            ("e.toml", "schema = 1\nextends = [\"a.toml\"]\n"),
            ("a.toml", "schema = 1\nextends = [\"b.toml\"]\n"),
            ("b.toml", "schema = 1\nextends = [\n    \"a.toml\",\n]\n"),
        ],
    ),
    case("An extended file that is not there", &[("e.toml", "schema = 1\nextends = [\"family.tml\"]\n")]),
    Case {
        title: "`--set` of a key that does not exist",
        files: &[("e.toml", SOUND)],
        flags: &["--set", "strategy.parms.alpha=0.5"],
    },
    Case {
        title: "`--set` of a source that does not exist",
        files: &[("e.toml", SOUND)],
        flags: &["--set", "sources.bsae.context_length=512"],
    },
    Case {
        title: "`--set` without quotes",
        files: &[("e.toml", SOUND)],
        flags: &["--set", "sources.base.user=Q: {{ prompt }}"],
    },
    Case { title: "`--unset` of what is not there", files: &[("e.toml", SOUND)], flags: &["--unset", "strategy.gate"] },
    case(
        "A sweep over a path that does not exist",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\n[sweep]\n\"run.temprature\" = [0.0, 1.0]\n",
        )],
    ),
    case(
        "Lists of different lengths, zipped",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\n[sweep]\nzip = true\n\"run.temperature\" = [0.0, 1.0]\n\"run.seed\" = [1, 2, 3]\n",
        )],
    ),
    Case {
        title: "`--set` of what a sweep varies",
        files: &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\n[sweep]\n\"run.temperature\" = [0.0, 1.0]\n",
        )],
        flags: &["--set", "run.temperature=0.5"],
    },
    case(
        "Expectations of what is not there",
        &[(
            "e.toml",
            "schema = 1\n[sources.base]\nmodel = \"L\"\n[tasks.qa]\ndata = \"qa.jsonl\"\n[variants.static]\n[variants.dynamic]\n\
             [gap]\nbase = \"static\"\nceiling = \"dynamics\"\nmetric = \"exact_match,none\"\n\
             [[expect]]\nvariant = \"dynamic\"\ntask = \"aq\"\nmetric = \"exact_match,none\"\nat_least = 0.9\n",
        )],
    ),
];

/// What `logitfuse config check` says of a case, which must be that something is wrong.
fn said(case: &Case) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in case.files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(binary());
    command.args(["config", "check", "e.toml"]).args(case.flags);
    let output =
        command.current_dir(folder.path()).env_remove("RUST_BACKTRACE").env_remove("COLUMNS").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}: {stderr}", case.title);
    assert!(output.stdout.is_empty() && stderr.starts_with("error: "), "{}: {stderr}", case.title);
    stderr
}

fn page() -> String {
    let mut page = "\
# What `logitfuse` says of a wrong experiment

Everything that is wrong with the keys of a file is told at once, with its line. What needs a look at other files, such as
folders of models, parameters of strategies and data, is told next, for every variant and task. This page is made by a test, so
the words are those that you will read. Every command here is `logitfuse config check e.toml`, where no other flags are shown;
`run` and `generate` say the same.
"
    .to_owned();
    for case in CASES {
        let _ = write!(page, "\n## {}\n\n", case.title);
        for (name, text) in case.files {
            let _ = write!(page, "`{name}`\n\n```toml\n{text}```\n\n");
        }
        let flags: Vec<String> = case
            .flags
            .iter()
            .map(|flag| if flag.contains([' ', '{']) { format!("'{flag}'") } else { (*flag).to_owned() })
            .collect();
        if !flags.is_empty() {
            let _ = write!(page, "```sh\nlogitfuse config check e.toml {}\n```\n\n", flags.join(" "));
        }
        let _ = write!(page, "```text\n{}```\n", said(case));
    }
    page
}

#[test]
fn the_page_of_diagnostics_is_what_users_read() {
    assert!(CASES.len() >= 20);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnostics.md");
    let page = page();
    if std::env::var_os("LOGITFUSE_BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let different = committed.lines().zip(page.lines()).position(|(a, b)| a != b);
    assert!(
        committed == page,
        "docs/diagnostics.md differs, first in line {different:?}; see this test's page for how to renew it"
    );
}
