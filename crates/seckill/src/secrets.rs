//! The two secrets of a gateway: where they come from, and the tokens that are signed with them. On the embedded back end they may be in
//! its data folder, where a demonstration makes them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use rand::distr::Alphanumeric;
use seckill_token::{Rules, admin};
use secrecy::SecretString;

use crate::options::secrets::{AdminTokenOptions, BuyerSecretOptions, SecretOptions};

/// Both, as a demonstration has them: it signs its own buyers' tokens and opens its own sales.
#[derive(Clone)]
#[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "only demonstrations read them"))]
pub(crate) struct Secrets {
    pub(crate) jwt_secret: SecretString,
    pub(crate) admin_token: SecretString,
    /// The claims that its own buyers' tokens need.
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
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
    min_chars: admin::MIN_TOKEN_CHARS,
};

impl Kind {
    fn check(&self, given: &str) -> Result<SecretString> {
        let (what, min, flag) = (self.what, self.min_chars, self.flag);
        // Everybody may have a public key, and whoever has it could sign with it.
        ensure!(
            !given.contains("-----BEGIN "),
            "{what} ({flag}) is a key in PEM, which is no secret; give it by --jwt-key-file"
        );
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

    /// The secret that was given, or else the one in the data folder, if there is such a folder; `None`: neither is there.
    fn look(&self, given: Option<&str>, data_dir: Option<&Path>) -> Result<Option<SecretString>> {
        match data_dir {
            Some(data_dir) if given.is_some() || data_dir.join(self.file).exists() => {
                self.find(given, data_dir).map(Some)
            }
            _ => given.map(|given| self.check(given)).transpose(),
        }
    }

    /// A new secret, which is kept in the data folder.
    fn make(&self, data_dir: &Path) -> Result<SecretString> {
        let path = data_dir.join(self.file);
        make(&path).with_context(|| format!("cannot keep {} in {}", self.what, path.display()))?;
        self.find(None, data_dir)
    }
}

/// The secrets that a gateway was given, or that are in its data folder.
pub(crate) struct Found {
    pub(crate) jwt_secret: Option<SecretString>,
    pub(crate) admin_token: Option<SecretString>,
}

impl Found {
    /// `kept`: the folder of the embedded back end.
    pub(crate) fn look(options: &SecretOptions, kept: Option<&Path>) -> Result<Self> {
        Ok(Self {
            jwt_secret: JWT.look(options.buyers.jwt_secret()?.as_deref(), kept)?,
            admin_token: ADMIN.look(options.admin.admin_token()?.as_deref(), kept)?,
        })
    }

    /// Refuses a start for which these secrets are needed and not there.
    pub(crate) fn demand(&self, jwt: bool, admin: bool, kept: Option<&Path>) -> Result<()> {
        let or_kept = |kind: &Kind| match kept {
            Some(data_dir) => format!(
                ", or put it into {}. For a demonstration, --demo-controls (SECKILL_DEMO=1) makes both secrets",
                data_dir.join(kind.file).display()
            ),
            None => String::new(),
        };
        if jwt && self.jwt_secret.is_none() {
            bail!(
                "nothing says which buyers' tokens are good. Give the secret that signs them, for example of `openssl rand -hex 32`, by \
                 --jwt-secret-file or SECKILL_JWT_SECRET{}. Or give public keys by --jwt-key-file (`seckill token keygen` makes a \
                 pair), or the address of an identity provider's keys by --jwks-url",
                or_kept(&JWT)
            );
        }
        if admin && self.admin_token.is_none() {
            bail!(
                "nobody could open a sale: give an admin token, for example of `openssl rand -hex 16`, by --admin-token-file or \
                 SECKILL_ADMIN_TOKEN{}. Or give a file of several by --admin-tokens-file",
                or_kept(&ADMIN)
            );
        }
        Ok(())
    }

    /// Refuses a demonstration without both secrets, where it cannot make them: its gateways share them.
    pub(crate) fn demand_both(&self) -> Result<()> {
        for (kind, secret) in [(&JWT, &self.jwt_secret), (&ADMIN, &self.admin_token)] {
            if secret.is_none() {
                return Err(kind
                    .missing()
                    .context("a demonstration signs its own buyers' tokens and opens sales"));
            }
        }
        Ok(())
    }

    /// Makes what is not there, and keeps it in the data folder.
    pub(crate) fn make_missing(&mut self, data_dir: &Path) -> Result<()> {
        for (kind, secret) in [(&JWT, &mut self.jwt_secret), (&ADMIN, &mut self.admin_token)] {
            if secret.is_none() {
                *secret = Some(kind.make(data_dir)?);
            }
        }
        Ok(())
    }

    /// Both, for a demonstration whose gateway checks these claims.
    pub(crate) fn both(self, rules: &Rules) -> Option<Secrets> {
        let (issuer, audience) = (rules.issuers.first().cloned(), rules.audiences.first().cloned());
        Some(Secrets { jwt_secret: self.jwt_secret?, admin_token: self.admin_token?, issuer, audience })
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

/// Whether both secrets are in this folder.
#[cfg(feature = "lab")]
pub(crate) fn are_kept_in(data_dir: &Path) -> bool {
    [JWT, ADMIN].iter().all(|kind| data_dir.join(kind.file).exists())
}

#[cfg(feature = "lab")]
impl Secrets {
    /// New secrets, which this folder has from now on: commands find them by `--data-dir`.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn new_in(data_dir: &Path) -> Result<Self> {
        let (jwt_secret, admin_token) = (JWT.make(data_dir)?, ADMIN.make(data_dir)?);
        Ok(Self { jwt_secret, admin_token, issuer: None, audience: None })
    }

    /// New secrets, which no file has.
    pub(crate) fn random() -> Self {
        Self { jwt_secret: random().into(), admin_token: random().into(), issuer: None, audience: None }
    }
}

/// The secret that signs buyers' tokens, for a command.
pub(crate) fn jwt_secret(options: &BuyerSecretOptions, data_dir: &Path) -> Result<SecretString> {
    JWT.find(options.jwt_secret()?.as_deref(), data_dir)
}

/// The admin token, for a command that sends requests to a gateway.
pub(crate) fn admin_token(options: &AdminTokenOptions, data_dir: &Path) -> Result<SecretString> {
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
#[cfg(feature = "lab")]
pub(crate) fn sign(jwt_secret: &SecretString, user: seckill_core::UserId, ttl: Duration) -> Result<String> {
    use secrecy::ExposeSecret;
    Ok(seckill_token::Signer::hs256(jwt_secret.expose_secret()).sign(user.0, in_the_future(ttl)?))
}

/// The second since 1970 that is so far away.
pub(crate) fn in_the_future(ttl: Duration) -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(now.as_secs().saturating_add(ttl.as_secs()))
}
