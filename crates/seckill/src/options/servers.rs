//! Flags for the single servers of the cluster back end, for commands that use one of them alone, too.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::given::Given;

#[derive(Clone, Args)]
pub(crate) struct AmqpOptions {
    /// RabbitMQ of the cluster back end; the path is the vhost, %2f the one named `/`. By default
    /// amqp://guest:guest@127.0.0.1:5672/%2f
    #[arg(long, env = "SECKILL_AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,
    /// File that holds the URL of RabbitMQ, in place of the URL
    #[arg(long, env = "SECKILL_AMQP_URL_FILE", value_name = "FILE")]
    amqp_url_file: Option<OsString>,
}

impl AmqpOptions {
    /// The URL of RabbitMQ.
    ///
    /// # Errors
    /// The file with the URL cannot be read, or URL and file are both given. The same holds for MySQL.
    pub(crate) fn url(&self) -> Result<String> {
        let given = Given::new("--amqp-url", &self.amqp_url, &self.amqp_url_file);
        given.read_or("amqp://guest:guest@127.0.0.1:5672/%2f")
    }
}

/// Prints no URL, because URLs may have passwords.
impl std::fmt::Debug for AmqpOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpOptions").finish_non_exhaustive()
    }
}

#[derive(Clone, Args)]
pub(crate) struct MysqlOptions {
    /// MySQL or MariaDB of the cluster back end; by default mysql://root@127.0.0.1:3306/seckill
    #[arg(long, env = "SECKILL_MYSQL_URL", hide_env_values = true)]
    mysql_url: Option<String>,
    /// File that holds the URL of MySQL or MariaDB, in place of the URL
    #[arg(long, env = "SECKILL_MYSQL_URL_FILE", value_name = "FILE")]
    mysql_url_file: Option<OsString>,
}

impl MysqlOptions {
    /// The URL of MySQL or MariaDB.
    pub(crate) fn url(&self) -> Result<String> {
        let given = Given::new("--mysql-url", &self.mysql_url, &self.mysql_url_file);
        given.read_or("mysql://root@127.0.0.1:3306/seckill")
    }
}

/// Prints no URL, because URLs may have passwords.
impl std::fmt::Debug for MysqlOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MysqlOptions").finish_non_exhaustive()
    }
}
