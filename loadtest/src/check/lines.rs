//! A list of lines that arrives in pieces of any size. One line at a time is held.

/// The longest line of a list.
const MAX_LINE: usize = 1_024;

/// The lines of a list while it arrives.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The line that has not ended yet.
    rest: Vec<u8>,
    /// Lines that have ended.
    count: u64,
    wrong: Option<String>,
}

impl Lines {
    /// Takes the next piece, and calls `line` with every line that it ends and its number, counted from 1. `line` returns whether
    /// it could read it.
    pub(crate) fn take(&mut self, mut piece: &[u8], mut line: impl FnMut(u64, &[u8]) -> bool) {
        while let Some(end) = piece.iter().position(|&byte| byte == b'\n') {
            let (rest, after) = (&piece[..end], &piece[end + 1..]);
            if self.rest.is_empty() {
                self.line(rest, &mut line);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(rest);
                self.line(&whole, &mut line);
                whole.clear();
                self.rest = whole;
            }
            piece = after;
        }
        if self.rest.len() + piece.len() <= MAX_LINE {
            self.rest.extend_from_slice(piece);
        } else {
            self.wrong.get_or_insert_with(|| format!("line {} is too long", self.count + 1));
        }
    }

    fn line(&mut self, text: &[u8], line: &mut impl FnMut(u64, &[u8]) -> bool) {
        self.count += 1;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !line(self.count, text) {
            let start = String::from_utf8_lossy(&text[..text.len().min(100)]).into_owned();
            self.wrong.get_or_insert_with(|| format!("line {} cannot be read: {start:?}", self.count));
        }
    }

    /// Takes a last line without an end, and checks the whole list.
    pub(crate) fn end(&mut self, mut line: impl FnMut(u64, &[u8]) -> bool) -> Result<(), String> {
        if !self.rest.is_empty() {
            let last = std::mem::take(&mut self.rest);
            self.line(&last, &mut line);
        }
        match self.wrong.take() {
            Some(wrong) => Err(wrong),
            None if self.count == 0 => Err("the answer is empty".to_owned()),
            None => Ok(()),
        }
    }
}

pub(crate) fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}
