//! Flags about who may buy and who may administer, beside the two secrets.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use seckill_token::Rules;

use crate::words;

/// What a token must say beside its signature.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClaimOptions {
    /// Who must have issued buyers' tokens (`iss`); several with commas [default: anybody with a key]
    #[arg(long, env = "SECKILL_JWT_ISSUER", value_delimiter = ',', value_name = "ISSUER")]
    jwt_issuer: Vec<String>,
    /// Whom buyers' tokens must be for (`aud`); several with commas, one of them is enough [default: anybody]
    #[arg(long, env = "SECKILL_JWT_AUDIENCE", value_delimiter = ',', value_name = "AUDIENCE")]
    jwt_audience: Vec<String>,
}

/// Empty values, as compose files leave them, count as not given.
fn given(values: &[String]) -> impl Iterator<Item = &str> {
    values.iter().map(|value| value.trim()).filter(|value| !value.is_empty())
}

impl ClaimOptions {
    pub(crate) fn rules(&self) -> Rules {
        let all = |values| given(values).map(str::to_owned).collect();
        Rules { issuers: all(&self.jwt_issuer), audiences: all(&self.jwt_audience) }
    }
}

/// Which keys and admins a gateway has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Buyers and admins")]
pub(crate) struct AccessOptions {
    /// Keys that buyers' tokens are checked with, beside the secret or in place of it: a public key in PEM (Ed25519 or RSA), a JWK or JWKS
    /// in JSON, or a folder of such files. May be given several times, or in the variable with commas. Read again when the files
    /// change. KID is the key id of a PEM file; in a folder it is the file's name without `.pem`
    #[arg(long, env = "SECKILL_JWT_KEY_FILES", value_delimiter = ',', value_name = "[KID=]FILE")]
    jwt_key_file: Vec<String>,
    /// Address of an identity provider's keys (JWKS), over HTTPS or HTTP
    #[arg(long, env = "SECKILL_JWKS_URL", value_name = "URL")]
    jwks_url: Option<String>,
    /// How often the address is asked, 10s to 1h. A key that is not in the answer any more stops working by then
    #[arg(long, env = "SECKILL_JWKS_REFRESH", default_value = "5m", value_parser = jwks_refresh)]
    pub(crate) jwks_refresh: Duration,
    /// How long the last keys of the address stay valid while it does not answer, 1m to 7days
    #[arg(long, env = "SECKILL_JWKS_KEEP", default_value = "1h", value_parser = jwks_keep)]
    pub(crate) jwks_keep: Duration,
    #[command(flatten)]
    pub(crate) claims: ClaimOptions,
    /// File of admin tokens, beside `--admin-token` or in place of it: lines of `name scopes token`. Scopes are `sales`, `audit` and
    /// `operate`, separated by commas, or `all`; in place of the token there may be `sha256:` and the digest
    #[arg(long, env = "SECKILL_ADMIN_TOKENS_FILE", value_name = "FILE")]
    admin_tokens_file: Option<OsString>,
}

impl AccessOptions {
    pub(crate) fn key_files(&self) -> impl Iterator<Item = &str> {
        given(&self.jwt_key_file)
    }

    pub(crate) fn jwks_url(&self) -> Option<&str> {
        self.jwks_url.as_deref().filter(|url| !url.is_empty())
    }

    pub(crate) fn admin_tokens_file(&self) -> Option<&OsString> {
        self.admin_tokens_file.as_ref().filter(|file| !file.is_empty())
    }
}

fn jwks_refresh(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(10)..=Duration::from_secs(3_600);
    words::duration(text)
        .ok()
        .filter(|time| allowed.contains(time))
        .ok_or_else(|| "give 10s to 1h, such as 5m".to_owned())
}

fn jwks_keep(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(60)..=Duration::from_secs(7 * 24 * 3_600);
    words::duration(text)
        .ok()
        .filter(|time| allowed.contains(time))
        .ok_or_else(|| "give 1m to 7days, such as 1h".to_owned())
}
