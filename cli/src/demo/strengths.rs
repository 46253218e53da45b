//! The strength of the fusion under every token, as numbers and in colour.

use std::fmt::Write;

use anstyle::{Ansi256Color, Style};
use logitfuse_core::Result;
use logitfuse_engine::TokenReport;
use logitfuse_pipeline::Pipeline;

/// Narrow enough for many tokens a line, wide enough for `0.00`.
const LEAST: usize = 4;

/// Steps of the scale: strengths up to each value, with a colour of the 256.
const SCALE: [(f64, u8, &str); 5] = [
    (0.25, 244, "base alone"),
    (0.75, 75, "half"),
    (1.25, 78, "1: the expert's own shift"),
    (1.75, 220, "more"),
    (f64::INFINITY, 209, "twice"),
];

/// Lines of tokens with their strengths below, at most `width` characters wide, and what the colours mean; nothing if the
/// strategy has no strength.
pub(super) fn strip(pipeline: &Pipeline, tokens: &[TokenReport], width: usize) -> Result<String> {
    let trace = &pipeline.strategy().info().trace;
    let Some(column) = trace.iter().position(|column| column.name == "alpha") else { return Ok(String::new()) };
    let mut cells = Vec::new();
    for report in tokens {
        let text = pipeline.tokenizer().decode(&[report.token], false)?;
        let shown = if text.trim().is_empty() { "␣" } else { text.trim() };
        cells.push((shown.replace(char::is_control, " "), report.trace[column]));
    }
    let mut strip = lines(&cells, width);
    let legend: Vec<String> =
        SCALE.iter().map(|&(_, colour, means)| format!("{0}■{0:#} {means}", style(colour))).collect();
    let _ = writeln!(strip, "{}", legend.join("   "));
    Ok(strip)
}

fn lines(cells: &[(String, f64)], width: usize) -> String {
    let (mut page, mut above, mut below, mut used) = (String::new(), String::new(), String::new(), 0);
    let mut flush = |above: &mut String, below: &mut String| {
        let _ = writeln!(page, "{}\n{}\n", above.trim_end(), below.trim_end());
        above.clear();
        below.clear();
    };
    for (text, alpha) in cells {
        let room = text.chars().count().max(LEAST);
        if used > 0 && used + room > width {
            flush(&mut above, &mut below);
            used = 0;
        }
        let style = style(colour(*alpha));
        let _ = write!(above, "{style}{text:>room$}{style:#} ");
        let _ = write!(below, "{style}{alpha:>room$.2}{style:#} ");
        used += room + 1;
    }
    if used > 0 {
        flush(&mut above, &mut below);
    }
    page
}

fn colour(alpha: f64) -> u8 {
    SCALE.iter().find(|(up_to, ..)| alpha <= *up_to).map_or(SCALE[0].1, |&(_, colour, _)| colour)
}

fn style(colour: u8) -> Style {
    Style::new().fg_color(Some(Ansi256Color(colour).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_stand_below_their_tokens() {
        let cells = [("61".to_owned(), 0.0), (".".to_owned(), 1.5), ("remain".to_owned(), 2.0)];
        let plain = anstream::adapter::strip_str(&lines(&cells, 11)).to_string();
        assert_eq!(plain, "  61    .\n0.00 1.50\n\nremain\n  2.00\n\n");
        assert_eq!([0.0, 1.0, 2.0, f64::NAN].map(colour), [244, 78, 209, 244]);
    }
}
