//! `seckill token`: prints bearer tokens for buyers.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use seckill_core::UserId;

use crate::cli::TokenArgs;
use crate::secrets;

/// `seckill token`
pub(crate) fn print(args: &TokenArgs) -> Result<ExitCode> {
    let secret = secrets::jwt_secret(&args.secrets, &args.data_dir)?;
    let last = args.user.checked_add(args.users - 1).context("there are not that many users above --user")?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for user in args.user..=last {
        writeln!(out, "{}", secrets::sign(&secret, UserId(user), args.ttl)?)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
