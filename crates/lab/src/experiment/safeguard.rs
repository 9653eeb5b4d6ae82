//! Where a safeguard is in this project: the line is found in the file itself, so it stays right when the file changes.

use serde::Serialize;

/// A piece of code, named by a file and by what stands in the line.
#[derive(Debug, Clone, Copy)]
pub struct Safeguard {
    /// From the top of the repository.
    pub file: &'static str,
    pub content: &'static str,
    /// Stands in that line and in no earlier one.
    pub code: &'static str,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub file: &'static str,
    /// From 1.
    pub line: usize,
    pub code: &'static str,
}

impl Safeguard {
    /// The line; a test finds all of them.
    pub fn line(&self) -> Option<Line> {
        let found = self.content.lines().position(|line| line.contains(self.code))?;
        let code = self.content.lines().nth(found).unwrap_or_default().trim();
        Some(Line { file: self.file, line: found + 1, code })
    }
}

/// Names a safeguard by its file, from the top of the repository, and by what stands in the line.
macro_rules! safeguard {
    ($file:literal, $code:literal) => {
        $crate::experiment::Safeguard {
            file: $file,
            content: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../", $file)),
            code: $code,
        }
    };
}
pub(crate) use safeguard;
