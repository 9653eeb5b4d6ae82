//! Who may buy and who may administer, at a gateway: from the options to keys and admins.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use seckill_core::Backend;
use seckill_gateway::buyers::{BuyerKeys, JwksConfig, KeyFile, KeySources};
use seckill_token::admin::AdminTokens;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::backend;
use crate::options::secrets::SecretOptions;
use crate::options::tokens::AccessOptions;
use crate::options::{BackendKind, BackendOptions};
use crate::secrets::{Found, Secrets};

/// Bytes of the file of admin tokens.
const MAX_ADMIN_BYTES: u64 = 64 * 1024;

pub(crate) struct Access {
    pub(crate) buyers: Arc<BuyerKeys>,
    pub(crate) admins: AdminTokens,
    /// The secret of buyers' tokens, which all gateways share, where there is one.
    pub(crate) shared_secret: Option<SecretString>,
    /// Only in a demonstration, which signs its own buyers' tokens and opens its own sales.
    pub(crate) secrets: Option<Secrets>,
}

/// Opens the back end, and finds out who may use it.
///
/// Outside demonstrations a gateway that nobody gave a key does not start: a secret that it made by itself would be known to nobody
/// who signs tokens, or to everybody who can read its folder. This is refused before anything is opened or made.
pub(crate) async fn open(
    backend: &BackendOptions,
    secrets: &SecretOptions,
    options: &AccessOptions,
    demo: bool,
) -> Result<(Backend, Access)> {
    let embedded = backend.backend == BackendKind::Embedded;
    let kept = embedded.then_some(backend.data_dir.as_path());
    let mut found = Found::look(secrets, kept)?;
    if demo && !embedded {
        found.demand_both()?;
    }
    if !demo {
        let any_key = options.key_files().next().is_some() || options.jwks_url().is_some();
        found.demand(!any_key, options.admin_tokens_file().is_none(), kept)?;
    }
    let opened = match backend.backend {
        BackendKind::Embedded => seckill_embedded::open(&backend.data_dir).await?,
        BackendKind::Cluster => backend::cluster(&backend.cluster).await?,
    };
    if demo && embedded {
        // After the folder was opened, which makes and locks it.
        found.make_missing(&backend.data_dir)?;
    }
    let access = Access {
        buyers: buyers(options, &found)?,
        admins: admins(options, &found)?,
        shared_secret: found.jwt_secret.clone(),
        secrets: if demo { found.both(&options.claims.rules()) } else { None },
    };
    Ok((opened, access))
}

fn buyers(options: &AccessOptions, found: &Found) -> Result<Arc<BuyerKeys>> {
    let files = options.key_files().map(|file| {
        file.parse::<KeyFile>().map_err(|hint| anyhow!("{file} (--jwt-key-file) names no file; {hint}"))
    });
    let jwks = options.jwks_url().map(|url| {
        let url = Url::parse(url).map_err(|error| {
            anyhow!("--jwks-url is no address ({error}); give one such as https://id.example.com/jwks.json")
        })?;
        let config = JwksConfig::new(url);
        anyhow::Ok(JwksConfig { refresh: options.jwks_refresh, keep: options.jwks_keep, ..config })
    });
    let sources = KeySources {
        secret: found.jwt_secret.clone(),
        files: files.collect::<Result<_>>()?,
        jwks: jwks.transpose()?,
        rules: options.claims.rules(),
    };
    Ok(BuyerKeys::open(sources)?)
}

fn admins(options: &AccessOptions, found: &Found) -> Result<AdminTokens> {
    let one = found.admin_token.as_ref().map(|token| AdminTokens::one(token.expose_secret()));
    let Some(file) = options.admin_tokens_file() else { return Ok(one.unwrap_or_default()) };
    let shown = file.display();
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(MAX_ADMIN_BYTES + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read {shown}, which --admin-tokens-file names"))?;
    ensure!(
        text.len() as u64 <= MAX_ADMIN_BYTES,
        "{shown}, which --admin-tokens-file names, is larger than 64 KiB; is it the right file?"
    );
    let listed = AdminTokens::read(&text).map_err(|error| {
        anyhow!("{shown}, which --admin-tokens-file names: {error}; a line is `name scopes token`, such as `shop sales,audit TOKEN`")
    })?;
    let with_flag = "the admin token of --admin-token, which is named `admin`,";
    listed
        .and(one.unwrap_or_default())
        .map_err(|error| anyhow!("{with_flag} {error} in {shown}; leave one of them out"))
}
