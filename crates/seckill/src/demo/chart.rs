//! Draws the shaved peak in the terminal. With room for it: arrivals and commits on one scale, and the backlog below them. In a
//! low terminal: all three in one.

use std::fmt::Write;

use console::{Style, style};

use super::curves::{Columns, Curves};
use crate::terminal::{self, Size};

/// The room where there is no terminal.
const PAGE: Size = Size { columns: 80, rows: 50 };
/// Columns beside the drawing: its scale, and the last one, after which a terminal would begin a new line.
const MARGIN: usize = 11;
/// Columns of the drawing at the most.
const WIDEST: usize = 120;
/// A terminal with fewer lines gets one drawing instead of three.
const TALL: usize = 30;
/// Lines that are left for the rest around that one drawing.
const AROUND: usize = 14;
/// Parts of one character cell, from empty to full.
const PARTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The drawing, with a newline at its end. `room`: that of the terminal, where there is one.
pub(super) fn draw(curves: &Curves, drain_rate: Option<u32>, room: Option<Size>) -> String {
    let room = room.unwrap_or(PAGE);
    let columns = room.columns.saturating_sub(MARGIN).clamp(10, WIDEST);
    let values = curves.columns(columns);
    let mut out = match room.rows < TALL {
        true => overlaid(&values, room),
        false => stacked(&values, drain_rate, room.columns),
    };
    let end = format!("{:.1} s", curves.seconds);
    let _ = writeln!(out, "{:>9} {:<w$}{end}", "", "0 s", w = columns - end.len());
    out
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(1.0, f64::max)
}

/// The larger of the two highest rates, so that both are seen on one scale.
fn rate_scale(values: &Columns) -> f64 {
    max(&values.arrivals).max(max(&values.commits))
}

fn stacked(values: &Columns, drain_rate: Option<u32>, columns: usize) -> String {
    let rate = rate_scale(values);
    let drained = drain_rate.map_or_else(String::new, |rate| format!(", drain rate {rate}"));
    let commits = [
        format!("commits, orders/s{drained}; same scale"),
        format!("commits/s{drained}"),
        "commits/s".to_owned(),
    ];
    let backlog = ["backlog, orders accepted and not yet committed", "backlog, orders"];
    let mut out = String::new();
    bars(&mut out, "arrivals, requests/s", &values.arrivals, rate, 7, &Style::new().yellow());
    bars(&mut out, fitting(&commits, columns), &values.commits, rate, 7, &Style::new().green());
    let most = max(&values.backlog);
    bars(&mut out, fitting(&backlog, columns), &values.backlog, most, 4, &Style::new().cyan());
    out
}

/// The first title that fits beside the scale, or else the last one.
fn fitting<Title: AsRef<str>>(titles: &[Title], columns: usize) -> &str {
    let fits = |title: &&Title| title.as_ref().len() + MARGIN <= columns;
    titles.iter().find(fits).or(titles.last()).map_or("", AsRef::as_ref)
}

fn bars(out: &mut String, title: &str, values: &[f64], max: f64, rows: usize, colour: &Style) {
    let _ = writeln!(out, "{:>9} {}", "", style(title).bold());
    for row in (0..rows).rev() {
        let scale = if row + 1 == rows { format!("{max:.0}") } else { String::new() };
        let cells: String = values.iter().map(|value| PARTS[parts(*value, max, row, rows)]).collect();
        let _ = writeln!(out, "{scale:>8} ▏{}", colour.apply_to(cells.trim_end()));
    }
}

/// How much of the cell in this row is filled, from 0 to 8. Row 0 is the lowest.
fn parts(value: f64, max: f64, row: usize, rows: usize) -> usize {
    let parts = value / max * rows as f64 * 8.0 - row as f64 * 8.0;
    // Every value above 0 is drawn, however small it is.
    let least = if row == 0 && value > 0.0 { 1.0 } else { 0.0 };
    parts.round().clamp(least, 8.0) as usize
}

/// What a cell of the one drawing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    Arrivals,
    Commits,
    Backlog,
    Nothing,
}

impl Ink {
    fn style(self) -> Style {
        match self {
            Self::Arrivals => Style::new().yellow(),
            Self::Commits => Style::new().green(),
            Self::Backlog => Style::new().cyan().bold(),
            Self::Nothing => Style::new(),
        }
    }
}

/// Commits before arrivals, on one scale; the backlog as a line on a scale of its own.
fn overlaid(values: &Columns, room: Size) -> String {
    let rows = room.rows.saturating_sub(AROUND).clamp(4, 10);
    let (rate, most) = (rate_scale(values), max(&values.backlog));
    let legend = [
        format!("{} arrivals, at most {:.0}/s", Ink::Arrivals.style().apply_to('░'), max(&values.arrivals)),
        format!("{} commits, at most {:.0}/s", Ink::Commits.style().apply_to('█'), max(&values.commits)),
        format!("{} backlog, at most {most:.0}", Ink::Backlog.style().apply_to('•')),
    ];
    let mut out = String::new();
    for line in terminal::lines(&legend, "   ", room.columns.saturating_sub(MARGIN)) {
        let _ = writeln!(out, "{:>9} {line}", "");
    }
    for row in (0..rows).rev() {
        let scale = if row + 1 == rows { format!("{rate:.0}") } else { String::new() };
        let cell = |at: usize| {
            let backlog = values.backlog[at];
            let line = backlog > 0.0 && (backlog / most * (rows - 1) as f64).round() as usize == row;
            let commits = parts(values.commits[at], rate, row, rows);
            match (line, commits, parts(values.arrivals[at], rate, row, rows)) {
                (true, ..) => (Ink::Backlog, '•'),
                (false, 1.., _) => (Ink::Commits, PARTS[commits]),
                // Half a cell of arrivals or more.
                (false, 0, 4..) => (Ink::Arrivals, '░'),
                (false, 0, _) => (Ink::Nothing, ' '),
            }
        };
        let cells: Vec<_> = (0..values.arrivals.len()).map(cell).collect();
        let _ = write!(out, "{scale:>8} ▏");
        for same in cells.chunk_by(|one, next| one.0 == next.0) {
            let text: String = same.iter().map(|cell| cell.1).collect();
            let _ = write!(out, "{}", same[0].0.style().apply_to(text));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use textwrap::core::display_width;

    use super::*;

    /// 20,000 requests in two seconds; 10,000 orders, committed in five.
    fn spike() -> Curves {
        Curves {
            seconds: 5.0,
            known: 5.0,
            sent: vec![(0.0, 0.0), (2.0, 20_000.0)],
            committed: vec![(0.0, 0.0), (5.0, 10_000.0)],
            backlog: vec![(0.0, 0.0), (1.0, 8_000.0), (5.0, 0.0)],
        }
    }

    fn lines(columns: usize, rows: usize) -> Vec<String> {
        let drawing = draw(&spike(), Some(2_000), Some(Size { columns, rows }));
        let drawing = console::strip_ansi_codes(&drawing).into_owned();
        drawing.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_at_half_the_scale_fills_half_the_rows() {
        let mut out = String::new();
        bars(&mut out, "t", &[5.0, 10.0, 0.0, 0.1], 10.0, 2, &Style::new());
        let rows: Vec<_> = out.lines().skip(1).map(|line| line.split('▏').nth(1).unwrap()).collect();
        assert_eq!(rows, [" █", "██ ▁"]);
    }

    #[test]
    fn it_is_narrower_than_the_terminal_and_uses_its_width() {
        for columns in [40, 60, 80, 100, 130] {
            for rows in [24, 50] {
                let widest = lines(columns, rows).iter().map(|line| display_width(line)).max();
                assert_eq!(widest, Some(columns - 1), "{columns} columns, {rows} rows");
            }
        }
        assert!(draw(&spike(), None, None).lines().all(|line| display_width(line) <= 80));
    }

    #[test]
    fn a_low_terminal_gets_one_drawing_of_all_three() {
        let tall = lines(80, 30);
        assert!(tall.len() <= 24 && tall.iter().any(|line| line.contains("drain rate 2000")), "{tall:#?}");
        for rows in [8, 24, 29] {
            let low = lines(80, rows);
            assert!(low.len() < 14, "{low:#?}");
            for part in
                ["░ arrivals, at most 10000/s", "█ commits, at most 2000/s", "• backlog, at most 8000"]
            {
                assert!(low.iter().any(|line| line.contains(part)), "{part}: {low:#?}");
            }
        }
    }
}
