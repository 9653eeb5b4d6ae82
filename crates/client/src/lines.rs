//! Lines of a body that comes bit by bit.

/// The longest line, in bytes: an event or a row has a few hundred.
const MAX_LINE: usize = 1024 * 1024;

/// What has come and was not taken yet.
#[derive(Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where the first line that was not taken begins.
    at: usize,
}

impl Lines {
    /// Takes in what came next.
    ///
    /// # Errors
    /// A line is too long.
    pub(crate) fn take_in(&mut self, piece: &[u8]) -> Result<(), String> {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(piece);
        if self.bytes.len() > MAX_LINE + piece.len() {
            return Err(format!("a line is longer than {MAX_LINE} bytes"));
        }
        Ok(())
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let line = String::from_utf8_lossy(line).into_owned();
        self.at += end + 1;
        Some(line)
    }

    /// Whether a part of a line is left.
    pub(crate) fn has_rest(&self) -> bool {
        self.at < self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_in_pieces_of_any_size() {
        let text = "one\r\ntwo\n\nlast";
        for size in [1, 2, 5, text.len()] {
            let (mut lines, mut read) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                lines.take_in(piece).unwrap();
                read.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(read, ["one", "two", ""], "in pieces of {size}");
            assert!(lines.has_rest());
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; MAX_LINE / 2];
        let taken: Vec<_> = (0..5).map(|_| lines.take_in(&piece).is_ok()).collect();
        assert!(taken[0] && !taken[4], "{taken:?}");
    }
}
