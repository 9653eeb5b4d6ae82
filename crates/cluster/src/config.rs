//! Where the servers are: the three URLs, read and checked. A URL may hold a password, so none is ever printed.

use deadpool_redis::redis::{ConnectionInfo, IntoConnectionInfo};
use lapin::uri::AMQPUri;
use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use thiserror::Error;
use url::{Host, Url};

/// Seconds between two heartbeats on a connection to RabbitMQ, where the URL does not say otherwise: a dead connection
/// is found out after two of them.
const AMQP_HEARTBEAT_SECONDS: u16 = 5;

/// Where the servers are.
#[derive(Clone)]
pub struct ClusterConfig {
    /// `redis://[user:password@]host[:port][/number]`; `rediss://` with TLS.
    pub redis_url: String,
    /// `amqp://[user:password@]host[:port][/vhost]`; `amqps://` with TLS.
    pub amqp_url: String,
    /// `mysql://[user[:password]@]host[:port]/database[?ssl-mode=…]`.
    pub mysql_url: String,
    /// Connections to Redis, at the most; at least 1.
    pub redis_pool_size: usize,
    /// Whether Redis loses nothing when it is started again (`appendfsync always`, no replicas): its gates are then trusted in
    /// whatever run they were filled. Default: false.
    pub gate_durable: bool,
    /// Where accepted orders wait.
    pub queue: QueueKind,
    /// For [`QueueKind::RedisStreams`]: the Redis of the queue, in the form of `redis_url`. `None`: that of the gate. A server that
    /// loses its data then loses gate and queue at once, and with them orders that buyers were promised.
    pub queue_redis_url: Option<String>,
}

/// The broker of the orders. Events are on RabbitMQ in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueKind {
    /// Quorum queues of RabbitMQ.
    #[default]
    RabbitMq,
    /// Streams of Redis.
    RedisStreams,
}

impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("redis_pool_size", &self.redis_pool_size)
            .field("gate_durable", &self.gate_durable)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// A URL of the configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {name} url {problem}; the right form is {example}")]
pub struct UrlError {
    /// Which one: `redis`, `queue redis`, `amqp` or `mysql`.
    pub name: &'static str,
    /// What is wrong with it. Never holds a part of the URL that may be a password.
    pub problem: String,
    /// What a right one looks like.
    pub example: &'static str,
}

/// What is known about one of the URLs.
struct Form {
    name: &'static str,
    schemes: &'static [&'static str],
    example: &'static str,
}

const REDIS: Form =
    Form { name: "redis", schemes: &["redis", "rediss"], example: "redis://user:password@localhost:6379/0" };
const QUEUE_REDIS: Form = Form { name: "queue redis", ..REDIS };
const AMQP: Form =
    Form { name: "amqp", schemes: &["amqp", "amqps"], example: "amqp://user:password@localhost:5672/vhost" };
const MYSQL: Form = Form {
    name: "mysql",
    schemes: &["mysql", "mariadb"],
    example: "mysql://user:password@localhost:3306/seckill",
};

impl Form {
    fn wrong(&self, problem: impl Into<String>) -> UrlError {
        UrlError { name: self.name, problem: problem.into(), example: self.example }
    }

    fn parse(&self, text: &str) -> Result<Url, UrlError> {
        if text.trim().is_empty() {
            return Err(self.wrong("is empty"));
        }
        let begins = |scheme: &&str| text.strip_prefix(*scheme).is_some_and(|rest| rest.starts_with("://"));
        if !self.schemes.iter().any(begins) {
            return Err(self.wrong(format!("must begin with {}://", self.schemes.join(":// or "))));
        }
        let url = Url::parse(text).map_err(|error| {
            self.wrong(format!(
                "cannot be read ({error}; is the password percent-encoded, such as %40 for @?)"
            ))
        })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(self.wrong("names no host"));
        }
        Ok(url)
    }
}

pub(crate) fn redis(text: &str) -> Result<ConnectionInfo, UrlError> {
    redis_as(&REDIS, text)
}

/// The Redis of the queue.
pub(crate) fn queue_redis(text: &str) -> Result<ConnectionInfo, UrlError> {
    redis_as(&QUEUE_REDIS, text)
}

fn redis_as(form: &Form, text: &str) -> Result<ConnectionInfo, UrlError> {
    let url = form.parse(text)?;
    url.into_connection_info().map_err(|_| {
        form.wrong("cannot be used: after the host there may only be a port and the number of a database")
    })
}

pub(crate) fn amqp(text: &str) -> Result<AMQPUri, UrlError> {
    let url = AMQP.parse(text)?;
    let mut uri: AMQPUri = text
        .parse()
        .map_err(|_| AMQP.wrong("cannot be used: its user, password, vhost or parameters are bad"))?;
    // lapin reads only names; an IPv6 address would silently become localhost.
    if let Some(Host::Ipv6(address)) = url.host() {
        uri.authority.host = address.to_string();
    }
    // To the letter `amqp://host/` means a vhost without a name, which no one has; the default one is meant.
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    uri.query.heartbeat.get_or_insert(AMQP_HEARTBEAT_SECONDS);
    Ok(uri)
}

pub(crate) fn mysql(text: &str) -> Result<MySqlConnectOptions, UrlError> {
    let url = MYSQL.parse(text)?;
    if url.path().trim_matches('/').is_empty() {
        return Err(MYSQL.wrong("names no database"));
    }
    let options = MySqlConnectOptions::from_url(&url)
        .map_err(|_| MYSQL.wrong("cannot be used: its user, password, database or parameters are bad"))?;
    // sqlx takes the brackets of an IPv6 address for a part of a name.
    Ok(match url.host_str().and_then(|host| host.strip_prefix('[')?.strip_suffix(']')) {
        Some(address) => options.host(address),
        None => options,
    })
}

/// Which database it is, in a form that holds no secret: `host:port/database`.
pub(crate) fn place(options: &MySqlConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_told_in_one_sentence_without_the_password() {
        for (wrong, told) in [
            ("", "the redis url is empty; the right form is redis://user:password@localhost:6379/0"),
            ("http://:secret@host", "the redis url must begin with redis:// or rediss://; the right form is"),
            ("secret", "must begin with"),
            (
                "redis://:secret@host:port",
                "the redis url cannot be read (invalid port number; is the password",
            ),
            ("redis:///1", "names no host"),
            ("redis://:secret@host/one", "the number of a database"),
        ] {
            let error = redis(wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = mysql("mysql://root:secret@host").unwrap_err().to_string();
        assert_eq!(
            error,
            "the mysql url names no database; the right form is mysql://user:password@localhost:3306/seckill"
        );
        let error = mysql("mysql://root:secret@host/x?ssl-mode=secret").unwrap_err().to_string();
        assert!(error.contains("parameters are bad") && !error.contains("secret"), "{error}");
        let error = amqp("amqp://a:secret@host/?heartbeat=x").unwrap_err().to_string();
        assert!(error.contains("the amqp url cannot be used") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn an_amqp_url_means_what_its_writer_meant() {
        let uri = amqp("amqp://u:p@[::1]:5673/").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("::1", 5673, "/"));
        assert_eq!(uri.query.heartbeat, Some(5));
        let uri = amqp("amqp://127.0.0.1/shop?heartbeat=9").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.vhost.as_str()), ("127.0.0.1", "shop"));
        assert_eq!(uri.query.heartbeat, Some(9));
    }

    #[test]
    fn the_configuration_prints_no_url() {
        let config = ClusterConfig {
            redis_url: "redis://:secret@host".into(),
            amqp_url: "amqp://a:secret@host".into(),
            mysql_url: "mysql://a:secret@host/seckill".into(),
            redis_pool_size: 4,
            gate_durable: false,
            queue: QueueKind::RedisStreams,
            queue_redis_url: Some("redis://:secret@host".into()),
        };
        assert_eq!(
            format!("{config:?}"),
            "ClusterConfig { redis_pool_size: 4, gate_durable: false, queue: RedisStreams, .. }"
        );
    }
}
