//! The flags of `seckill gateway` about crowds, its doors, TLS, and its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use seckill_gateway::peer::{self, TrustedProxies};
use seckill_gateway::tls::Tls;
use seckill_gateway::{Config, CrowdConfig};

use crate::options::BackendKind;
use crate::words;

/// How long balancers of the cluster back end take to notice that a gateway drains, as a rule.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// The header in which trusted proxies say whom they speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardedHeader {
    /// X-Forwarded-For
    XForwardedFor,
    /// Forwarded (RFC 7239)
    Forwarded,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Doors and limits")]
pub(crate) struct LimitOptions {
    /// Address for whatever is not for buyers: the dashboard and its controls, /metrics, and the calls that want the admin token. With
    /// it --listen serves buyers only. Plain HTTP: keep it inside [default: everything is served on --listen]
    #[arg(long, env = "SECKILL_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = words::listen)]
    pub(crate) admin_listen: Option<String>,
    /// Certificate for HTTPS on --listen, a PEM file with the whole chain; read again when it changes
    #[arg(long, env = "SECKILL_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate, a PEM file
    #[arg(long, env = "SECKILL_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// Networks of proxies whose word counts about whom they speak for, such as 10.0.0.0/8,192.0.2.7. Name only proxies that set the
    /// header themselves: what a client sends in it must not get through
    #[arg(long, env = "SECKILL_TRUSTED_PROXIES", value_name = "NETWORKS", default_value = "", value_parser = networks)]
    trusted_proxies: Networks,
    /// Header in which they say it; the other one is not read
    #[arg(long, env = "SECKILL_FORWARDED_HEADER", value_enum, default_value = "x-forwarded-for")]
    forwarded_header: ForwardedHeader,
    /// Connections at the same time from one address, unless it is a trusted proxy's; 0: no limit
    #[arg(long, env = "SECKILL_MAX_CONNECTIONS_PER_PEER", default_value_t = 10_000)]
    max_connections_per_peer: usize,
    /// Requests a second from one address that come without a token or need none, and twice as many at once; 0: no limit
    #[arg(long, env = "SECKILL_ANONYMOUS_RATE_LIMIT", default_value_t = CrowdConfig::default().anonymous_rate_limit)]
    anonymous_rate_limit: u32,
    /// Requests a second from one address for what there is not, or with a bad token, and twice as many at once; 0: no limit
    #[arg(long, env = "SECKILL_MISS_RATE_LIMIT", default_value_t = CrowdConfig::default().miss_rate_limit)]
    miss_rate_limit: u32,
    /// Requests with the same token that may be under way at the same time; 0: no limit
    #[arg(long, env = "SECKILL_MAX_REQUESTS_PER_TOKEN", default_value_t = CrowdConfig::default().requests_per_token)]
    max_requests_per_token: usize,
    /// Event streams with the same token that may be open at the same time; 0: no limit
    #[arg(long, env = "SECKILL_MAX_STREAMS_PER_TOKEN", default_value_t = CrowdConfig::default().streams_per_token)]
    max_streams_per_token: usize,
    /// Orders that may be under way at the same time; more are refused as `overloaded`; 0: no limit
    #[arg(long, env = "SECKILL_MAX_ORDERS_UNDER_WAY", default_value_t = CrowdConfig::default().orders_under_way)]
    max_orders_under_way: usize,
    /// The same for other requests
    #[arg(long, env = "SECKILL_MAX_READS_UNDER_WAY", default_value_t = CrowdConfig::default().reads_under_way)]
    max_reads_under_way: usize,
    /// How long orders go on after SIGTERM, while /readyz says `draining` already: longer than a balancer takes to notice. A second
    /// signal cuts it short [default: 5s on the cluster back end, 0s on the embedded one, which has no other gateway]
    #[arg(long, env = "SECKILL_DRAIN_DELAY", value_parser = words::duration)]
    drain_delay: Option<Duration>,
}

impl LimitOptions {
    /// Adds what the flags say to a configuration.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub(crate) fn apply(&self, config: Config, backend: BackendKind) -> Result<Config> {
        let tls = match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(cert), Some(key)) => Some(Arc::new(Tls::load(cert.clone(), key.clone())?)),
            _ => None,
        };
        let header = match self.forwarded_header {
            ForwardedHeader::XForwardedFor => peer::ForwardedHeader::XForwardedFor,
            ForwardedHeader::Forwarded => peer::ForwardedHeader::Forwarded,
        };
        let drain_delay = self.drain_delay.unwrap_or(match backend {
            BackendKind::Embedded => Duration::ZERO,
            BackendKind::Cluster => DRAIN_DELAY,
        });
        Ok(Config {
            crowd: CrowdConfig {
                orders_under_way: self.max_orders_under_way,
                reads_under_way: self.max_reads_under_way,
                requests_per_token: self.max_requests_per_token,
                streams_per_token: self.max_streams_per_token,
                anonymous_rate_limit: self.anonymous_rate_limit,
                miss_rate_limit: self.miss_rate_limit,
                proxies: TrustedProxies::new(self.trusted_proxies.0.iter().copied(), header),
            },
            max_connections_per_peer: self.max_connections_per_peer,
            tls,
            drain_delay,
            ..config
        })
    }
}

/// Networks with commas between them; none at all is allowed, for files that set the variable in any case.
#[derive(Debug, Clone)]
struct Networks(Vec<IpNet>);

fn networks(text: &str) -> Result<Networks, String> {
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    parts.map(network).collect::<Result<_, _>>().map(Networks)
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    network.map_err(|_| "give networks or addresses, such as 10.0.0.0/8,192.0.2.7".to_owned())
}
