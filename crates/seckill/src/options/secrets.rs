//! Flags for the two secrets: the one that signs buyers' tokens, and the admin token.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::DATA_DIR;
use crate::given::Given;

/// Both secrets, for a gateway.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Buyers and admins")]
pub(crate) struct SecretOptions {
    #[command(flatten)]
    pub(crate) buyers: BuyerSecretOptions,
    #[command(flatten)]
    pub(crate) admin: AdminTokenOptions,
}

#[derive(Clone, Args)]
pub(crate) struct BuyerSecretOptions {
    /// Secret that signs buyers' tokens (HS256), 32 characters or more. By default the embedded back end takes it from `jwt.secret` in its
    /// data folder, if it is there; gateways of the cluster back end share it
    #[arg(long, env = "SECKILL_JWT_SECRET", hide_env_values = true)]
    jwt_secret: Option<String>,
    /// File that holds the secret that signs buyers' tokens, in place of the secret
    #[arg(long, env = "SECKILL_JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<OsString>,
}

impl BuyerSecretOptions {
    /// # Errors
    /// The file cannot be read, or secret and file are both given. The same holds for the token.
    pub(crate) fn jwt_secret(&self) -> Result<Option<String>> {
        Given::new("--jwt-secret", &self.jwt_secret, &self.jwt_secret_file).read()
    }
}

/// Prints no secret.
impl std::fmt::Debug for BuyerSecretOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuyerSecretOptions").finish_non_exhaustive()
    }
}

#[derive(Clone, Args)]
pub(crate) struct AdminTokenOptions {
    /// Token that may do everything, named `admin`, 16 characters or more; by default that of `admin.token` in the data folder
    #[arg(long, env = "SECKILL_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// File that holds this token, in place of the token
    #[arg(long, env = "SECKILL_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<OsString>,
}

impl AdminTokenOptions {
    pub(crate) fn admin_token(&self) -> Result<Option<String>> {
        Given::new("--admin-token", &self.admin_token, &self.admin_token_file).read()
    }
}

/// Prints no token.
impl std::fmt::Debug for AdminTokenOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminTokenOptions").finish_non_exhaustive()
    }
}

/// What a command needs to act as an admin.
#[derive(Debug, Args)]
#[command(next_help_heading = "Admin")]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    pub(crate) token: AdminTokenOptions,
    /// Folder of the embedded back end, whose gateway may have its secrets there
    #[arg(long, env = "SECKILL_DATA_DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}
