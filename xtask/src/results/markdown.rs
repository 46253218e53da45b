//! Numbers and tables as Markdown.

use std::fmt::Write;

use logitfuse_metrics::{
    gap::Recovered,
    statistics::{Estimate, Interval},
};

/// A table whose first column is names and whose others are numbers.
pub(super) struct Table {
    text: String,
}

impl Table {
    pub(super) fn new<S: AsRef<str>>(head: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self { text: String::new() };
        let columns = table.line(head);
        table.line((0..columns).map(|column| if column == 0 { "---" } else { "---:" }));
        table
    }

    pub(super) fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.line(cells);
    }

    pub(super) fn text(self) -> String {
        self.text
    }

    fn line<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) -> usize {
        let mut columns = 0;
        for cell in cells {
            let _ = write!(self.text, "| {} ", cell.as_ref().replace('|', "\\|"));
            columns += 1;
        }
        self.text.push_str("|\n");
        columns
    }
}

/// Of a share: `98.0 [96.1, 99.6]`.
pub(super) fn percent(estimate: &Estimate) -> String {
    within(100.0 * estimate.value, estimate.interval)
}

/// Of a difference of shares, in points, with its sign.
pub(super) fn points(estimate: &Estimate) -> String {
    let Interval { low, high } = estimate.interval;
    let [value, low, high] = [estimate.value, low, high].map(|share| signed(100.0 * share));
    format!("{value} [{low}, {high}]")
}

/// Of a gap: `91 % [88, 96]`, or that there is none.
pub(super) fn closed(gap: Option<Recovered>) -> String {
    gap.map_or("void".to_owned(), |gap| {
        let Interval { low, high } = gap.interval;
        let [value, low, high] = [gap.value, low, high].map(|share| minus(format!("{:.0}", 100.0 * share)));
        format!("{value} % [{low}, {high}]")
    })
}

fn within(value: f64, Interval { low, high }: Interval) -> String {
    format!("{value:.1} [{:.1}, {:.1}]", 100.0 * low, 100.0 * high)
}

pub(super) fn signed(value: f64) -> String {
    let text = format!("{value:+.1}");
    if matches!(text.as_str(), "+0.0" | "-0.0") { "0.0".to_owned() } else { minus(text) }
}

/// With the sign that typesetters use.
fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some("0") => "0".to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let interval = Interval { low: -0.0281, high: 0.0003 };
        let estimate = Estimate { value: -0.0131, stderr: None, interval };
        assert_eq!(points(&estimate), "−1.3 [−2.8, 0.0]");
        let gap = Recovered { value: 0.908, interval: Interval { low: -0.004, high: 0.956 }, undefined_draws: 0 };
        assert_eq!(closed(Some(gap)), "91 % [0, 96]");
        assert_eq!(closed(None), "void");
    }

    #[test]
    fn a_bar_in_a_cell_is_no_column() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x | y", "1"]);
        assert_eq!(table.text(), "| a | b |\n| --- | ---: |\n| x \\| y | 1 |\n");
    }
}
