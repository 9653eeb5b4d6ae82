//! How much room a terminal has, and text that fits into it.

use std::os::fd::AsFd;

use rustix::termios::{isatty, tcgetwinsize};
#[cfg(any(feature = "lab", test))]
use textwrap::core::display_width;

/// The room of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// The room on stdout; `None`: it is no terminal, or one that does not say how large it is.
pub(crate) fn stdout() -> Option<Size> {
    size(&std::io::stdout())
}

/// The same of stderr.
#[cfg(feature = "lab")]
pub(crate) fn stderr() -> Option<Size> {
    size(&std::io::stderr())
}

fn size(stream: &impl AsFd) -> Option<Size> {
    let size = isatty(stream).then(|| tcgetwinsize(stream).ok()).flatten()?;
    let known = size.ws_col > 0 && size.ws_row > 0;
    known.then(|| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// Puts parts of text into lines of at most so many columns, with a gap between two of them. A part is never broken.
#[cfg(any(feature = "lab", test))]
pub(crate) fn lines<Part: AsRef<str>>(parts: &[Part], gap: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts.iter().map(AsRef::as_ref) {
        match lines.last_mut() {
            Some(line) if display_width(line) + display_width(gap) + display_width(part) <= columns => {
                line.push_str(gap);
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

/// Breaks sentences between words, where a terminal is narrower than they are.
#[cfg(feature = "lab")]
pub(crate) fn fill(text: &str, size: Option<Size>) -> String {
    size.map_or_else(|| text.to_owned(), |size| textwrap::fill(text, size.columns.saturating_sub(1).max(20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_a_line_as_long_as_they_fit() {
        assert_eq!(lines(&["ab", "cd", "ef"], "  ", 6), ["ab  cd", "ef"]);
        assert_eq!(lines(&["longer than it", "x"], "  ", 6), ["longer than it", "x"]);
        // Colours take no room.
        assert_eq!(lines(&["\u{1b}[32mab\u{1b}[0m", "cd"], "  ", 6).len(), 1);
    }
}
