//! How a terminal on this machine sends the load that the page sends: a line that runs as it is pasted.

use std::env;
use std::path::{Path, absolute};

use seckill_lab::load::LoadCommand;

use crate::greeting::quoted;
use crate::secrets;

/// The load generator's program.
const PROGRAM: &str = "loadtest";

/// `data_dir`: the folder of the embedded back end.
pub(super) fn of(data_dir: Option<&Path>) -> LoadCommand {
    let folder =
        data_dir.filter(|folder| secrets::are_kept_in(folder)).and_then(|folder| absolute(folder).ok());
    let secrets = folder.map(|folder| format!("--data-dir {}", quoted(&folder.display().to_string())));
    LoadCommand { program: program(), secrets: secrets.unwrap_or_default() }
}

/// The program where a shell finds it; or beside this one; or by cargo, where this one was built from source.
fn program() -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file()) {
        return PROGRAM.to_owned();
    }
    let own = env::current_exe().unwrap_or_default();
    let Some(folder) = own.parent() else { return PROGRAM.to_owned() };
    let beside = folder.join(PROGRAM);
    if beside.is_file() {
        return quoted(&beside.display().to_string());
    }
    // SOURCE/target/release/seckill
    match folder.ancestors().nth(2) {
        Some(source) if source.join(PROGRAM).join("Cargo.toml").is_file() => {
            let manifest = quoted(&source.join("Cargo.toml").display().to_string());
            format!("cargo run --release --manifest-path {manifest} -p {PROGRAM} --")
        }
        _ => PROGRAM.to_owned(),
    }
}
