//! `loadtest completions` and `loadtest man`: what shells and manual readers know of this program, made from its own help.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Failure};
use crate::command::print;

/// `loadtest completions SHELL`
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "loadtest", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// `loadtest man`
pub(crate) fn man(out: &Path) -> Result<ExitCode, Failure> {
    let written = std::fs::create_dir_all(out).and_then(|()| clap_mangen::generate_to(Cli::command(), out));
    let folder = out.display();
    written.map_err(|error| {
        Failure::Fault(format!("cannot write the pages to {folder}: {error}; give another folder with --out"))
    })?;
    eprintln!("the pages are in {folder}; read one with `man -l {}`", out.join("loadtest.1").display());
    Ok(ExitCode::SUCCESS)
}
