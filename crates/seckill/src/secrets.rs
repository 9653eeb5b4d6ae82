//! The two secrets of a gateway: where they come from, and the tokens that are signed with them. The embedded back end keeps
//! them in its data folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::distr::Alphanumeric;
use seckill_core::UserId;
use seckill_token::Signer;
use secrecy::{ExposeSecret, SecretString};

use crate::options::SecretOptions;

pub(crate) struct Secrets {
    pub(crate) jwt_secret: SecretString,
    pub(crate) admin_token: SecretString,
}

/// One of the two secrets.
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

    /// The secret that was given, or else the one in the data folder.
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

    /// The secret that was given, or else the one in the data folder, or else a new one, which is written there.
    fn find_or_make(&self, given: Option<&str>, data_dir: &Path) -> Result<SecretString> {
        let path = data_dir.join(self.file);
        if given.is_none() && !path.exists() {
            make(&path).with_context(|| format!("cannot keep {} in {}", self.what, path.display()))?;
        }
        self.find(given, data_dir)
    }
}

/// Writes a random secret that only this user may read. A process that is killed meanwhile leaves no half-written file under
/// this name.
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
    /// New secrets, which no file has.
    #[cfg(feature = "lab")]
    pub(crate) fn random() -> Self {
        Self { jwt_secret: random().into(), admin_token: random().into() }
    }

    /// The secrets of a gateway on the embedded back end, which keeps them in `data_dir`.
    pub(crate) fn kept(options: &SecretOptions, data_dir: &Path) -> Result<Self> {
        Ok(Self {
            jwt_secret: JWT.find_or_make(options.jwt_secret()?.as_deref(), data_dir)?,
            admin_token: ADMIN.find_or_make(options.admin_token()?.as_deref(), data_dir)?,
        })
    }

    /// The secrets of a gateway on the cluster back end, which must be given: gateways share them.
    pub(crate) fn given(options: &SecretOptions) -> Result<Self> {
        let check = |kind: &Kind, given: Option<String>| kind.check(&given.ok_or_else(|| kind.missing())?);
        Ok(Self {
            jwt_secret: check(&JWT, options.jwt_secret()?)?,
            admin_token: check(&ADMIN, options.admin_token()?)?,
        })
    }
}

/// The secret that signs buyers' tokens, for a command.
pub(crate) fn jwt_secret(options: &SecretOptions, data_dir: &Path) -> Result<SecretString> {
    JWT.find(options.jwt_secret()?.as_deref(), data_dir)
}

/// The admin token, for a command that sends requests to a gateway.
pub(crate) fn admin_token(options: &SecretOptions, data_dir: &Path) -> Result<SecretString> {
    let given = options.admin_token()?;
    let kept = data_dir.join(ADMIN.file);
    ensure!(
        given.is_some() || kept.exists(),
        "the admin token of the gateway is not known: {} is not there. Give --admin-token or --admin-token-file, or set \
         SECKILL_ADMIN_TOKEN; or give --data-dir with the folder of an embedded gateway",
        kept.display()
    );
    ADMIN.find(given.as_deref(), data_dir)
}

/// Signs a token for `user` that is valid for `ttl`.
pub(crate) fn sign(jwt_secret: &SecretString, user: UserId, ttl: Duration) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let expires_at = now.as_secs().saturating_add(ttl.as_secs());
    Ok(Signer::hs256(jwt_secret.expose_secret()).sign(user.0, expires_at))
}
