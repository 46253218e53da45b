use std::{fmt::Write, path::Path};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{CaseResult, Verdict};
use logitfuse_plugin_host::PluginFile;

/// All results of a check, with what they are about.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub path: String,
    /// The plugin's id; empty for a file that is no plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The sha256 of the file; empty for a file that is no plugin.
    pub sha256: String,
    /// The seed of the random cases.
    pub seed: u64,
    /// What became of every case, in a fixed order.
    pub results: Vec<CaseResult>,
}

impl Report {
    pub(crate) fn new(path: &Path, seed: u64) -> Self {
        let path = path.display().to_string();
        Self { path, plugin: String::new(), version: String::new(), sha256: String::new(), seed, results: Vec::new() }
    }

    pub(crate) fn describe(&mut self, file: &PluginFile) {
        self.plugin.clone_from(&file.metadata().id);
        self.version.clone_from(&file.metadata().version);
        self.sha256 = file.hash().to_string();
    }

    /// How many results have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.results.iter().filter(|result| result.verdict == verdict).count()
    }

    /// What speaks against the plugin.
    pub fn findings(&self) -> impl Iterator<Item = &CaseResult> {
        self.results.iter().filter(|result| result.verdict.is_finding())
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let mut report = json!(self);
        report["schema_version"] = json!(1);
        report["findings"] = json!(self.findings().count());
        report["causes"] = json!(self.causes());
        report
    }

    /// As `JUnit`'s XML, which continuous integration systems read: one suite for each group.
    pub fn to_junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let time: f64 = self.results.iter().map(|result| result.seconds).sum();
        let (tests, failures) = (self.results.len(), self.findings().count());
        // Writing to a String does not fail.
        let _ = writeln!(
            xml,
            "<testsuites name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" time=\"{time:.3}\">",
            escape(&self.path)
        );
        let mut groups: Vec<_> = self.results.iter().map(|result| result.group).collect();
        groups.dedup();
        for group in groups {
            let of_group: Vec<&CaseResult> = self.results.iter().filter(|result| result.group == group).collect();
            let failures = of_group.iter().filter(|result| result.verdict.is_finding()).count();
            let skipped = of_group.iter().filter(|result| result.verdict == Verdict::Skipped).count();
            let tests = of_group.len();
            let _ = writeln!(
                xml,
                "  <testsuite name=\"{group}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\">"
            );
            for result in of_group {
                let class = result.strategy.as_deref().unwrap_or(&self.plugin);
                let (class, name, detail) = (escape(class), escape(&result.name), escape(&result.detail));
                let _ =
                    write!(xml, "    <testcase classname=\"{class}\" name=\"{name}\" time=\"{:.3}\"", result.seconds);
                let _ = match result.verdict {
                    Verdict::Passed => writeln!(xml, "/>"),
                    Verdict::Skipped => writeln!(xml, "><skipped message=\"{detail}\"/></testcase>"),
                    Verdict::Warning => {
                        writeln!(xml, "><system-out>warning: {detail}</system-out></testcase>")
                    }
                    Verdict::Failed => writeln!(xml, "><failure message=\"{detail}\"/></testcase>"),
                    Verdict::Crashed => {
                        writeln!(xml, "><failure type=\"crashed\" message=\"{detail}\"/></testcase>")
                    }
                    Verdict::Hung => {
                        writeln!(xml, "><failure type=\"hung\" message=\"{detail}\"/></testcase>")
                    }
                };
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 cannot hold these at all.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Group;

    #[test]
    fn junit_counts_and_escapes() {
        let mut report = Report::new(Path::new("a&b.so"), 7);
        let mut add = |group, verdict, detail: &str| {
            report.results.push(CaseResult {
                group,
                name: "x".to_owned(),
                strategy: None,
                verdict,
                detail: detail.to_owned(),
                seconds: 0.5,
            });
        };
        add(Group::Load, Verdict::Passed, "");
        add(Group::Memory, Verdict::Crashed, "<\"\u{1b}>");
        let xml = report.to_junit();
        assert!(xml.contains("<testsuites name=\"a&amp;b.so\" tests=\"2\" failures=\"1\" time=\"1.000\">"), "{xml}");
        assert!(xml.contains("<failure type=\"crashed\" message=\"&lt;&quot;\u{fffd}&gt;\"/>"), "{xml}");
        assert_eq!(report.to_json()["findings"], 1);
    }
}
