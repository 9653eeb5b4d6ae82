//! Where the programs of the servers are, and free ports for them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Where servers are installed on systems whose users do not have that on their `PATH`.
const MORE_FOLDERS: [&str; 5] =
    ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin"];

/// The first program of any of these names, folder by folder along `PATH` and then the folders where servers are
/// installed.
pub(super) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_FOLDERS.map(PathBuf::from))
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|file| is_program(file))
}

/// What to say where [`find`] finds nothing.
pub(super) fn missing(program: &str, package: &str) -> String {
    format!(
        "{program} is not installed, and these tests run against the real server: install it with \
         scripts/setup.sh, or with `apt-get install {package}`"
    )
}

pub(super) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A port of 127.0.0.1 that nobody listens on. It lies below the range from which the kernel serves outgoing
/// connections, so it is still free when a server is started again on it.
pub(super) fn free_port() -> Result<u16, String> {
    (0..1_000)
        .map(|_| rand::random_range(12_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| "no free port between 12000 and 32000 on 127.0.0.1".to_owned())
}
