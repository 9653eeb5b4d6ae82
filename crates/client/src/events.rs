//! Event streams (`text/event-stream`): the part of them that the API uses.

use futures_util::{StreamExt, stream};
use serde::de::DeserializeOwned;

use crate::Stream;
use crate::error::Error;
use crate::http::Source;
use crate::lines::Lines;

/// The events of this name, whose data is JSON. Others, and comments, are passed over.
pub(crate) fn events<T: DeserializeOwned + Send + 'static>(source: Source, name: &'static str) -> Stream<T> {
    let reader = Reader { source, name, lines: Lines::default(), event: Event::default() };
    stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        match reader.next().await.transpose()? {
            Ok(value) => Some((Ok(value), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Reader {
    source: Source,
    name: &'static str,
    lines: Lines,
    event: Event,
}

/// An event as far as its lines have come.
#[derive(Default)]
struct Event {
    name: String,
    data: String,
}

impl Event {
    /// Takes in a line; the event, where it was the last one.
    fn take_in(&mut self, line: &str) -> Option<Self> {
        if line.is_empty() {
            return Some(std::mem::take(self)).filter(|event| !event.data.is_empty());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" if self.data.is_empty() => value.clone_into(&mut self.data),
            "data" => {
                self.data.push('\n');
                self.data.push_str(value);
            }
            // A comment, or what nobody asks for.
            _ => {}
        }
        None
    }
}

impl Reader {
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        loop {
            while let Some(line) = self.lines.next() {
                if let Some(event) = self.event.take_in(&line).filter(|event| event.name == self.name) {
                    let read = serde_json::from_str(&event.data);
                    return read.map(Some).map_err(|error| self.source.unreadable(error.to_string()));
                }
            }
            let Some(piece) = self.source.piece().await? else { return Ok(None) };
            self.lines.take_in(&piece).map_err(|reason| self.source.unreadable(reason))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_a_blank_line() {
        let mut event = Event::default();
        let lines = [": alive", "", "event: status", "id: 7", "data: {", "data:}", ""];
        let whole: Vec<_> = lines.iter().filter_map(|line| event.take_in(line)).collect();
        assert_eq!(whole.len(), 1, "a comment is no event");
        assert_eq!((whole[0].name.as_str(), whole[0].data.as_str()), ("status", "{\n}"));
    }
}
