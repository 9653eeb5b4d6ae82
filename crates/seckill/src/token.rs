//! `seckill token`: prints bearer tokens for buyers, and makes keys that sign them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use seckill_token::Signer;
use secrecy::ExposeSecret;

use crate::cli::token::{KeygenAlgorithm, KeygenArgs, SignArgs, TokenArgs, TokenCommand};
use crate::secrets;

/// `seckill token`
pub(crate) fn token(args: &TokenArgs) -> Result<ExitCode> {
    match &args.command {
        Some(TokenCommand::Keygen(args)) => keygen(args),
        None => print(&args.sign),
    }
}

fn print(args: &SignArgs) -> Result<ExitCode> {
    let signer = signer(args)?;
    let expires_at = secrets::in_the_future(args.ttl)?;
    let last = args.user.checked_add(args.users - 1).context("there are not that many users above --user")?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for user in args.user..=last {
        writeln!(out, "{}", signer.sign(user, expires_at))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn signer(args: &SignArgs) -> Result<Signer> {
    let rules = args.claims.rules();
    let (issuer, audience) = (rules.issuers.into_iter().next(), rules.audiences.into_iter().next());
    let kid = args.kid.as_deref().filter(|kid| !kid.is_empty());
    let file = args.signing_key_file.as_ref().filter(|file| !file.is_empty());
    let signer = match file {
        Some(file) => {
            let shown = file.display();
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {shown}, which --signing-key-file names"))?;
            Signer::from_file(&text, kid).with_context(|| format!("{shown} (--signing-key-file)"))?
        }
        None => {
            ensure!(
                kid.is_none(),
                "the secret (--jwt-secret) has no key id; give --kid with --signing-key-file only"
            );
            Signer::hs256(secrets::jwt_secret(&args.secret, &args.data_dir)?.expose_secret())
        }
    };
    Ok(signer.with_claims(issuer, audience))
}

fn keygen(args: &KeygenArgs) -> Result<ExitCode> {
    let KeygenArgs { alg, kid, out } = args;
    let made = || format!("cannot make the folder {}", out.display());
    DirBuilder::new().recursive(true).mode(0o700).create(out).with_context(made)?;
    let file = |ending: &str| out.join(format!("{kid}.{ending}"));
    match alg {
        KeygenAlgorithm::EdDsa => {
            let pair = seckill_token::generate_ed25519();
            let (private, public) = (file("key"), file("pem"));
            write(&private, &pair.private, 0o600)?;
            write(&public, &pair.public, 0o644)?;
            say(&private, "signs: keep it where tokens are made (seckill token --signing-key-file)");
            say(
                &public,
                &format!("checks: give it to every gateway (--jwt-key-file {kid}={})", public.display()),
            );
        }
        KeygenAlgorithm::Hs256 => {
            let path = file("jwk");
            write(&path, &seckill_token::generate_hs256(kid)?, 0o600)?;
            say(
                &path,
                "signs and checks: --signing-key-file where tokens are made, --jwt-key-file at every gateway",
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(path: &Path, what: &str) {
    eprintln!("{}: {what}", path.display());
}

/// Writes a new file, and never over one that is there: the key in it may be in use.
fn write(path: &PathBuf, text: &str, mode: u32) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let hint = || {
        format!(
            "cannot write {}; a key that is there is not overwritten: choose another --kid",
            path.display()
        )
    };
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(hint)
}
