//! A matrix of small plots that share their rows: variants down, tasks across. What does not fit beside goes below.

use super::{
    scale::Domain,
    svg::{Anchor, Canvas, text_width},
};

const LEAST_COLUMN: f64 = 132.0;
const WIDEST_COLUMN: f64 = 300.0;
const GAP: f64 = 18.0;
const FOOT: f64 = 22.0;

/// What a row is called, and its hue.
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) class: String,
}

/// One plot of every row.
pub(crate) struct Column {
    pub(crate) title: String,
    /// A second line, smaller in rank.
    pub(crate) note: String,
    pub(crate) domain: Domain,
    /// Values with a dashed line through all rows.
    pub(crate) references: Vec<f64>,
}

/// Where a cell may draw.
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
    domain: Domain,
}

impl Frame {
    /// Where a value lies; values outside are moved to the edge.
    pub(crate) fn x(&self, value: f64) -> f64 {
        self.left + self.domain.place(value).clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// Whether a value has its place, rather than the edge.
    pub(crate) fn holds(&self, value: f64) -> bool {
        (0.0..=1.0).contains(&self.domain.place(value))
    }

    pub(crate) fn middle(&self) -> f64 {
        f64::midpoint(self.top, self.bottom)
    }
}

/// Draws every cell through `cell(canvas, row, column, frame)`.
pub(crate) fn draw(
    width: f64,
    rows: &[Row],
    columns: &[Column],
    row_height: f64,
    cell: &dyn Fn(&mut Canvas, usize, usize, &Frame),
) -> Canvas {
    let mut canvas = Canvas::new(width);
    let widest = rows.iter().map(|row| text_width(&row.label)).fold(0.0, f64::max);
    let label = (widest + 10.0).clamp(40.0, width * if width < 500.0 { 0.42 } else { 0.3 });
    let (across, column_width) = fit(columns.len(), width - label);
    let head = if columns.iter().all(|column| column.note.is_empty()) { 22.0 } else { 38.0 };
    let mut y = 0.0;
    for (block, part) in columns.chunks(across.max(1)).enumerate() {
        let top = y + head;
        let bottom = top + rows.len() as f64 * row_height;
        for (i, row) in rows.iter().enumerate() {
            let baseline = top + (i as f64 + 0.5) * row_height + 4.0;
            canvas.cut_text("", Anchor::End, (label - 8.0, baseline), &row.label, label - 8.0);
        }
        for (i, column) in part.iter().enumerate() {
            let left = label + i as f64 * column_width;
            let frame = Frame { left, right: left + column_width - GAP, top, bottom, domain: column.domain };
            axis(&mut canvas, column, &frame, y);
            for (r, row) in rows.iter().enumerate() {
                let top = top + r as f64 * row_height;
                let frame = Frame { top, bottom: top + row_height, ..frame };
                canvas.group(&row.class, |canvas| cell(canvas, r, block * across + i, &frame));
            }
        }
        y = bottom + FOOT + 14.0;
        canvas.reach(y - 8.0);
    }
    canvas
}

/// How many columns are side by side, evenly over the blocks, and how wide each is.
fn fit(columns: usize, room: f64) -> (usize, f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
    let most = ((room / LEAST_COLUMN).floor() as usize).clamp(1, columns.max(1));
    let blocks = columns.max(1).div_ceil(most);
    let across = columns.max(1).div_ceil(blocks);
    (across, (room / across as f64).min(WIDEST_COLUMN))
}

fn axis(canvas: &mut Canvas, column: &Column, frame: &Frame, y: f64) {
    let room = frame.right - frame.left;
    canvas.cut_text("strong", Anchor::Start, (frame.left, y + 13.0), &column.title, room);
    canvas.cut_text("muted", Anchor::Start, (frame.left, y + 28.0), &column.note, room);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
    let ticks = column.domain.ticks((room / 48.0) as usize);
    for (value, label) in ticks {
        let x = frame.x(value);
        canvas.line("grid", (x, frame.top), (x, frame.bottom));
        // Labels at the ends stay within their own plot.
        let anchor = match () {
            () if x < frame.left + 10.0 => Anchor::Start,
            () if x > frame.right - 10.0 => Anchor::End,
            () => Anchor::Middle,
        };
        canvas.text("muted", anchor, (x, frame.bottom + 15.0), &label);
    }
    for &value in column.references.iter().filter(|&&value| frame.holds(value)) {
        canvas.line("reference", (frame.x(value), frame.top - 3.0), (frame.x(value), frame.bottom));
    }
    canvas.line("axis", (frame.left, frame.bottom), (frame.right, frame.bottom));
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn columns_are_spread_evenly() {
        assert_eq!(fit(5, 720.0).0, 5);
        assert_eq!(fit(6, 720.0).0, 3, "two blocks of three, not five and one");
        assert_eq!(fit(4, 250.0).0, 1);
        assert_eq!(fit(0, 250.0).0, 1);
    }
}
