//! The secrets that an embedded gateway keeps in its folder, for a run that was given none.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use loadtest::send::target::Target;

use crate::cli::{Failure, RunOptions};

/// Where a gateway keeps them, unless it was told another folder.
const DATA_DIR: &str = "seckill-data";

/// The same options with the secrets of the folder, where there are some and flags gave none. `data_dir` is then the folder that
/// they come from, and otherwise `None`.
///
/// Without the flag, the folder counts for a gateway on this machine only. Its admin token must not go to whichever address was
/// typed.
pub(crate) fn fill(mut options: RunOptions) -> Result<RunOptions, Failure> {
    let named = options.data_dir.take().filter(|folder| !folder.as_os_str().is_empty());
    let bare = options.jwt_secret.is_none() && options.tokens.is_none() && options.admin_token.is_none();
    let folder = match named {
        Some(folder) => folder,
        None if bare && Target::parse(&options.target)?.is_this_machine() => usual(),
        None => return Ok(options),
    };
    let mut found = false;
    if options.jwt_secret.is_none() && options.tokens.is_none() {
        options.jwt_secret = read(&folder.join("jwt.secret"))?;
        found |= options.jwt_secret.is_some();
    }
    if options.admin_token.is_none() {
        options.admin_token = read(&folder.join("admin.token"))?;
        found |= options.admin_token.is_some();
    }
    options.data_dir = found.then_some(folder);
    Ok(options)
}

/// The folder that the environment names, as gateways take it, or the default one.
fn usual() -> PathBuf {
    let named = std::env::var_os("SECKILL_DATA_DIR").filter(|folder| !folder.is_empty());
    named.map_or_else(|| PathBuf::from(DATA_DIR), PathBuf::from)
}

fn read(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|secret| !secret.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::Usage(format!(
            "cannot read {}: {error}; run as the user whose gateway it is, or give --jwt-secret-file and --admin-token-file",
            file.display()
        ))),
    }
}
