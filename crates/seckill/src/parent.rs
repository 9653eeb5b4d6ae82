//! A process that another seckill has started: it sends its address to its parent, and it ends with its parent.

use std::io::{self, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

/// Writes the address to stdout, and cancels `shutdown` when stdin ends. The parent holds the other end of that pipe and
/// writes nothing to it. The system closes the pipe however the parent ends, also by SIGKILL.
pub(crate) fn attach(address: SocketAddr, shutdown: CancellationToken) -> Result<()> {
    // A thread, because tokio cannot cancel a read of stdin, and would wait for it at the end of the process.
    let wait = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        shutdown.cancel();
    };
    std::thread::Builder::new().name("parent".to_owned()).spawn(wait).context("cannot start a thread")?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{address}")
        .and_then(|()| stdout.flush())
        .context("the parent does not read the address")
}
