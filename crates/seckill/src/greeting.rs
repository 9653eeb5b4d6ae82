//! The five lines with which a gateway opens: where everything is, and what to do next.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, absolute};

use anyhow::Result;
use seckill_core::DrainRate;

use crate::cli::GatewayArgs;
use crate::options::BackendKind;

/// The page, the data, the secrets, the drain rate, and the next command, for the one who has just started a gateway whose page
/// is at `address`. `secure`: that is by HTTPS.
pub(crate) fn of(args: &GatewayArgs, address: SocketAddr, secure: bool) -> Result<String> {
    let backend = &args.backend;
    let embedded = backend.backend == BackendKind::Embedded;
    let folder = absolute(&backend.data_dir).unwrap_or_else(|_| backend.data_dir.clone());
    let page = format!("{}://{}", if secure { "https" } else { "http" }, reachable(address));
    let data = match embedded {
        true => folder.display().to_string(),
        false => "on Redis, RabbitMQ and MySQL".to_owned(),
    };
    let drained = match embedded {
        true => match args.worker.drain.drain_rate {
            DrainRate::PerSecond(rate) => format!("{rate} orders/s; `seckill drain set` changes it"),
            other => format!("{other}; `seckill drain set` changes it"),
        },
        false => "that of the workers; `seckill drain show` has it".to_owned(),
    };
    let mut text = String::new();
    for (name, value) in [
        ("Page", format!("{page}/   (buyers: {page}/shop)")),
        ("Data", data),
        ("Secrets", secrets(args, embedded.then_some(folder.as_path()))?),
        ("Drain rate", drained),
        ("Next", next(args, &page)),
    ] {
        let _ = writeln!(text, "  {name:<12}{value}");
    }
    Ok(text)
}

/// An address that a browser on this machine can open.
fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    }
}

/// Where the two secrets come from, and never what they are.
fn secrets(args: &GatewayArgs, kept: Option<&Path>) -> Result<String> {
    let buyers = (args.secrets.buyers.jwt_secret()?.is_some(), "jwt.secret", "buyers' tokens: other keys");
    let admin = (args.secrets.admin.admin_token()?.is_some(), "admin.token", "admins: --admin-tokens-file");
    let from = [buyers, admin].map(|(given, file, otherwise)| match kept {
        _ if given => format!("{file}: as given"),
        Some(folder) if folder.join(file).exists() => format!("{file} in this folder"),
        _ => otherwise.to_owned(),
    });
    Ok(from.join(", "))
}

/// Opens a sale, in a second terminal in the same folder, as it stands: with the name by which this program was started, and with
/// the flags that have no default value here.
fn next(args: &GatewayArgs, page: &str) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "seckill".to_owned());
    let mut command = format!("{} sale create --name Phone --stock 100", quoted(&program));
    if page != "http://127.0.0.1:8080" {
        let _ = write!(command, " --server {page}");
    }
    if args.backend.data_dir != Path::new(crate::options::DATA_DIR) {
        let _ = write!(command, " --data-dir {}", quoted(&args.backend.data_dir.display().to_string()));
    }
    command
}

/// For a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_spaces_or_quotes_stays_one_word_of_the_shell() {
        assert_eq!(quoted("target/release/seckill"), "target/release/seckill");
        assert_eq!(quoted("my data"), "'my data'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
    }
}
