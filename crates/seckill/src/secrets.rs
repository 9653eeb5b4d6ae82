//! What must stay secret: how it is given, by flag, environment or file; and the two secrets of a gateway, which the
//! embedded back end keeps in its data folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use rand::distr::Alphanumeric;
use seckill_core::UserId;
use seckill_token::Signer;
use secrecy::{ExposeSecret, SecretString};

use crate::cli::TokenArgs;
use crate::options::SecretOptions;

/// Something secret as it may be given: by itself, or in a file, which keeps it out of the environment and of the list of
/// processes. What is set and empty, as compose files leave variables, is not given.
pub(crate) struct Given<'a> {
    flag: &'static str,
    value: Option<&'a str>,
    file: Option<&'a OsStr>,
}

impl<'a> Given<'a> {
    /// What `flag` was given, or `flag` with `-file` at its end.
    pub(crate) fn new(flag: &'static str, value: &'a Option<String>, file: &'a Option<OsString>) -> Self {
        let value = value.as_deref().filter(|value| !value.is_empty());
        let file = file.as_deref().filter(|file| !file.is_empty());
        Self { flag, value, file }
    }

    /// The value, without the newlines that editors leave at a file's end.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        let flag = self.flag;
        match (self.value, self.file) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(value.to_owned())),
            (Some(_), Some(_)) => {
                let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
                bail!(
                    "{flag} (SECKILL_{variable}) and {flag}-file (SECKILL_{variable}_FILE) are both given; give one of them and leave the \
                     other empty"
                )
            }
            (None, Some(file)) => {
                let shown = file.display();
                let text = fs::read_to_string(file)
                    .with_context(|| format!("cannot read {shown}, which {flag}-file names"))?;
                let text = text.trim_end_matches(['\r', '\n']);
                ensure!(
                    !text.is_empty(),
                    "{shown}, which {flag}-file names, is empty; write the value into it"
                );
                Ok(Some(text.to_owned()))
            }
        }
    }

    /// The value, or `default` where none is given.
    pub(crate) fn read_or(&self, default: &str) -> Result<String> {
        Ok(self.read()?.unwrap_or_else(|| default.to_owned()))
    }
}

/// What a gateway checks tokens with.
pub(crate) struct Secrets {
    pub(crate) jwt_secret: SecretString,
    pub(crate) admin_token: SecretString,
}

struct Kind {
    what: &'static str,
    flag: &'static str,
    variable: &'static str,
    file: &'static str,
    min_chars: usize,
}

const JWT: Kind = Kind {
    what: "the secret that signs buyers' tokens",
    flag: "--jwt-secret",
    variable: "SECKILL_JWT_SECRET",
    file: "jwt.secret",
    // HS256 asks for a key as long as its hash (RFC 7518, section 3.2).
    min_chars: 32,
};
const ADMIN: Kind = Kind {
    what: "the admin token",
    flag: "--admin-token",
    variable: "SECKILL_ADMIN_TOKEN",
    file: "admin.token",
    min_chars: 16,
};

impl Kind {
    fn check(&self, given: &str) -> Result<SecretString> {
        let (what, min, flag) = (self.what, self.min_chars, self.flag);
        ensure!(given.len() >= min, "{what} ({flag}) has {} characters; give {min} or more", given.len());
        Ok(given.into())
    }

    fn missing(&self) -> anyhow::Error {
        let Self { what, flag, variable, .. } = self;
        anyhow::anyhow!(
            "{what} is not set: give {flag} or {flag}-file, or set {variable}, for example to `openssl rand -hex 32`"
        )
    }

    /// What was given, else what the data folder keeps.
    fn find(&self, given: Option<&str>, data_dir: &Path) -> Result<SecretString> {
        match given {
            Some(given) => self.check(given),
            None => match fs::read_to_string(data_dir.join(self.file)) {
                Ok(kept) => self.check(kept.trim()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing()),
                Err(error) => {
                    Err(error).with_context(|| format!("cannot read {}", data_dir.join(self.file).display()))
                }
            },
        }
    }

    /// What was given, else what the data folder keeps, else a new one that it keeps from now on.
    fn find_or_make(&self, given: Option<&str>, data_dir: &Path) -> Result<SecretString> {
        let path = data_dir.join(self.file);
        if given.is_none() && !path.exists() {
            make(&path).with_context(|| format!("cannot keep {} in {}", self.what, path.display()))?;
        }
        self.find(given, data_dir)
    }
}

/// Writes a random secret that only this user may read. Under its name it is whole, or it is not there.
fn make(path: &Path) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{}", random())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

fn random() -> String {
    rand::rng().sample_iter(Alphanumeric).take(43).map(char::from).collect()
}

impl Secrets {
    /// New ones, known to this process only.
    pub(crate) fn random() -> Self {
        Self { jwt_secret: random().into(), admin_token: random().into() }
    }

    /// The secrets of a gateway whose back end keeps them in `data_dir`.
    pub(crate) fn kept(options: &SecretOptions, data_dir: &Path) -> Result<Self> {
        Ok(Self {
            jwt_secret: JWT.find_or_make(options.jwt_secret()?.as_deref(), data_dir)?,
            admin_token: ADMIN.find_or_make(options.admin_token()?.as_deref(), data_dir)?,
        })
    }

    /// The secrets of a gateway that shares them with others.
    pub(crate) fn given(options: &SecretOptions) -> Result<Self> {
        let check = |kind: &Kind, given: Option<String>| kind.check(&given.ok_or_else(|| kind.missing())?);
        Ok(Self {
            jwt_secret: check(&JWT, options.jwt_secret()?)?,
            admin_token: check(&ADMIN, options.admin_token()?)?,
        })
    }
}

/// The admin token for a command that talks to a gateway.
pub(crate) fn admin_token(options: &SecretOptions, data_dir: &Path) -> Result<SecretString> {
    ADMIN.find(options.admin_token()?.as_deref(), data_dir)
}

/// Signs a token for `user` that is valid for `ttl`.
pub(crate) fn sign(jwt_secret: &SecretString, user: UserId, ttl: Duration) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let expires_at = now.as_secs().saturating_add(ttl.as_secs());
    Ok(Signer::hs256(jwt_secret.expose_secret()).sign(user.0, expires_at))
}

/// `seckill token`
pub(crate) fn print_tokens(args: &TokenArgs) -> Result<ExitCode> {
    let secret = JWT.find(args.secrets.jwt_secret()?.as_deref(), &args.data_dir)?;
    let last = args.user.checked_add(args.users - 1).context("there are not that many users above --user")?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for user in args.user..=last {
        writeln!(out, "{}", sign(&secret, UserId(user), args.ttl)?)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
