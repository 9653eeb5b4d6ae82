//! The broker's first words on a connection, from which its version is read. The client reads them too, but keeps them to
//! itself, and what "no delivery limit" is called differs by version.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The broker's first message is shorter than this.
const LONGEST: usize = 4_096;
/// In AMQP's form for tables: the length of the name, the name, and the letter for "text".
const VERSION: &[u8] = b"\x07versionS";

/// The first bytes that came over a connection.
#[derive(Clone, Default)]
pub(super) struct Greeting(Arc<Mutex<Vec<u8>>>);

impl Greeting {
    /// The first number of the version, such as 3 for `3.10.8`.
    pub(super) fn version(&self) -> Option<u32> {
        let bytes = self.bytes();
        let at = bytes.windows(VERSION.len()).position(|window| window == VERSION)? + VERSION.len();
        let (length, text) = bytes.get(at..)?.split_first_chunk::<4>()?;
        let text = text.get(..u32::from_be_bytes(*length).try_into().ok()?)?;
        std::str::from_utf8(text).ok()?.split('.').next()?.parse().ok()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("nothing that is done under this lock can panic")
    }
}

/// A stream that keeps the first bytes that are read from it.
pub(super) struct Heard<S> {
    stream: S,
    greeting: Greeting,
    /// How many bytes are still to be kept.
    missing: usize,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, greeting: Greeting) -> Self {
        Self { stream, greeting, missing: LONGEST }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.missing > 0 {
            let new = &buffer.filled()[before..];
            let kept = &new[..new.len().min(self.missing)];
            self.greeting.bytes().extend_from_slice(kept);
            self.missing -= kept.len();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn the_version_is_read_from_the_first_bytes() {
        for (said, wanted) in [
            (
                b"\x01\0\0\0\x08\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8\0".as_slice(),
                Some(3),
            ),
            (b"\x07versionS\0\0\0\x0c4.3.0-beta.2", Some(4)),
            (b"\x07versionS\0\0\0\x0c4.3", None),
            (b"\x07versionS", None),
            (b"", None),
        ] {
            let greeting = Greeting::default();
            let mut read = Vec::new();
            Heard::new(said, greeting.clone()).read_to_end(&mut read).await.unwrap();
            assert_eq!(read, said);
            assert_eq!(greeting.version(), wanted);
        }
    }

    #[tokio::test]
    async fn no_more_is_kept_than_a_greeting() {
        let greeting = Greeting::default();
        let mut read = Vec::new();
        Heard::new([7_u8; 3 * LONGEST].as_slice(), greeting.clone()).read_to_end(&mut read).await.unwrap();
        assert_eq!((read.len(), greeting.bytes().len()), (3 * LONGEST, LONGEST));
    }
}
