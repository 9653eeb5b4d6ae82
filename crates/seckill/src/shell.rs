//! `seckill completions` and `seckill man`: what shells and manual readers know of this program, made from its own help.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::groups;
use crate::cli::shell::{CompletionsArgs, ManArgs};

/// `seckill completions SHELL`
pub(crate) fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut groups::command(), "seckill", &mut script);
    match io::stdout().write_all(&script) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print the script"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// `seckill man`
pub(crate) fn man(args: &ManArgs) -> Result<ExitCode> {
    let folder = args.out.display();
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {folder}"))?;
    clap_mangen::generate_to(groups::command(), &args.out)
        .with_context(|| format!("cannot write the pages to {folder}; give another folder with --out"))?;
    eprintln!("The pages are in {folder}; read one with `man -l {}`", args.out.join("seckill.1").display());
    Ok(ExitCode::SUCCESS)
}
