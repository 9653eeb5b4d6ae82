//! The arguments of `seckill token`. The doc comments are the help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::options::DATA_DIR;
use crate::options::secrets::BuyerSecretOptions;
use crate::options::tokens::ClaimOptions;
use crate::words;

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: Option<TokenCommand>,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a key: for EdDSA NAME.key, which signs, and NAME.pem, which gateways check with; for HS256 NAME.jwk, which does both
    ///
    /// For RS256 use OpenSSL: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out NAME.key`, then
    /// `openssl pkey -in NAME.key -pubout -out NAME.pem`.
    Keygen(KeygenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The user id of the first token
    #[arg(long, default_value_t = 1)]
    pub(crate) user: u64,
    /// How many tokens, a line each, for users counting up from the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) users: u64,
    /// How long the tokens are valid
    #[arg(long, default_value = "24h", value_parser = words::duration)]
    pub(crate) ttl: Duration,
    /// File with the key that signs, in place of the secret: a private key in PEM (Ed25519 or RSA), or an `oct` JWK
    #[arg(long, env = "SECKILL_SIGNING_KEY_FILE", value_name = "FILE")]
    pub(crate) signing_key_file: Option<OsString>,
    /// The key id that the tokens name [default: that of a JWK, else none]
    #[arg(long, env = "SECKILL_SIGNING_KEY_ID", value_name = "KID")]
    pub(crate) kid: Option<String>,
    #[command(flatten)]
    pub(crate) claims: ClaimOptions,
    #[command(flatten)]
    pub(crate) secret: BuyerSecretOptions,
    /// Folder of the embedded back end, whose gateway may have its secrets there
    #[arg(long, env = "SECKILL_DATA_DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeygenAlgorithm {
    /// Ed25519: who checks cannot sign
    #[value(name = "EdDSA", alias = "eddsa")]
    EdDsa,
    /// One secret signs and checks
    #[value(name = "HS256", alias = "hs256")]
    Hs256,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// How tokens will be signed
    #[arg(long, value_enum, default_value = "EdDSA")]
    pub(crate) alg: KeygenAlgorithm,
    /// The key id, and the name of the files: letters, digits, `.`, `-` and `_`
    #[arg(long, value_name = "NAME", value_parser = words::key_name)]
    pub(crate) kid: String,
    /// Folder for the files; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
