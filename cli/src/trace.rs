//! The trace of a generation as a table, one row per token.

use std::fmt::Write;

use anstyle::Style;
use logitfuse_core::TokenId;
use logitfuse_engine::TokenReport;
use logitfuse_pipeline::Pipeline;
use logitfuse_text::Tokenizer;

/// The legend of the table.
pub(crate) const LEGEND: &str =
    "p: probability under the fused distribution; kl: nats; *: the top token of this role alone is another one\n";

/// Width of a token's column; longer ones are cut.
const TOKEN: usize = 16;

/// The trace of a run, written line by line.
pub(crate) struct Table {
    tokenizer: Tokenizer,
    columns: Vec<String>,
    roles: Vec<String>,
}

impl Table {
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        let info = pipeline.strategy().info();
        let bindings = &pipeline.session().bindings;
        let twice = |role: &str| bindings.iter().filter(|b| b.role == role).count() > 1;
        let label = |b: &logitfuse_core::RoleBinding| {
            if twice(&b.role) { format!("{}:{}", b.role, b.source) } else { b.role.clone() }
        };
        Self {
            tokenizer: pipeline.tokenizer().clone(),
            columns: info.trace.iter().map(|c| c.name.clone()).collect(),
            roles: bindings.iter().map(label).collect(),
        }
    }

    pub(crate) fn header(&self) -> String {
        let bold = Style::new().bold();
        let mut line = format!("{bold}{:>4}  {:<TOKEN$} {:>6}", "#", "token", "p");
        for column in &self.columns {
            let _ = write!(line, " {column:>w$}", w = width(column));
        }
        for role in &self.roles {
            let _ = write!(line, "  {:<w$}", format!("{role}'s top token"), w = TOKEN + 7);
        }
        format!("{}{bold:#}\n", line.trim_end())
    }

    pub(crate) fn row(&self, report: &TokenReport) -> String {
        let mut line =
            format!("{:>4}  {} {:>6.3}", report.position, token(&self.tokenizer, report.token), report.log_prob.exp());
        for (column, value) in self.columns.iter().zip(&report.trace) {
            let _ = match value {
                value if value.is_nan() => write!(line, " {:>w$}", "-", w = width(column)),
                value => write!(line, " {value:>w$.3}", w = width(column)),
            };
        }
        for role in &report.roles {
            let Some(&(top, log_prob)) = role.top_logprobs.first() else { continue };
            // The mark says it; dimming only helps the eye.
            let agrees = top == report.token;
            let (style, mark) = if agrees { (Style::new().dimmed(), ' ') } else { (Style::new(), '*') };
            let _ = write!(line, " {mark}{style}{} {:.3}{style:#} ", token(&self.tokenizer, top), log_prob.exp());
        }
        format!("{}\n", line.trim_end())
    }
}

fn width(column: &str) -> usize {
    column.len().max(8)
}

/// A token as it reads in the text, quoted, in a fixed width.
fn token(tokenizer: &Tokenizer, id: TokenId) -> String {
    let text = tokenizer.decode(&[id], false).unwrap_or_default();
    let quoted = format!("{text:?}");
    let shown: String =
        if quoted.chars().count() > TOKEN { quoted.chars().take(TOKEN - 1).chain(['…']).collect() } else { quoted };
    format!("{shown:<TOKEN$}")
}
