//! Reads single arguments of the command line. What cannot be read is refused with what it should look like.

use std::time::Duration;

use seckill_client::Rate;
use seckill_core::{OrderId, SubscriberName};
use url::Url;
use uuid::Uuid;

use crate::refund_steps;

pub(crate) fn sale_id(text: &str) -> Result<u64, String> {
    let id = text.parse().ok().filter(|id| *id > 0);
    id.ok_or_else(|| "a sale's id is a whole number from 1; `seckill sale list` shows the newest".to_owned())
}

/// A key's id that becomes the name of its files.
pub(crate) fn key_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let good = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain);
    let form = "give 1 to 64 letters, digits, `.`, `-` and `_`, such as 2026-11";
    if good { Ok(text.to_owned()) } else { Err(form.to_owned()) }
}

/// An order's id.
pub(crate) fn order_id(text: &str) -> Result<OrderId, String> {
    text.parse().map_err(|_| {
        "an order's id looks like 01a21a7f-fed2-771c-85bf-a914b6af2a2f; the buyer was answered with it"
            .to_owned()
    })
}

/// The id of a parked message. It becomes a part of a path.
pub(crate) fn message_id(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    good.then(|| text.to_owned()).ok_or_else(|| {
        "a message's id has letters, digits and hyphens only; `seckill parked list` shows the ids".to_owned()
    })
}

/// A drain rate that workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WantedRate {
    PerSecond(u32),
    Unlimited,
    Auto,
    /// What each worker was started with.
    Default,
}

impl WantedRate {
    /// As the gateway takes it.
    pub(crate) fn wire(self) -> Option<Rate> {
        match self {
            Self::PerSecond(rate) => Some(Rate::Number(rate)),
            Self::Unlimited => Some(Rate::Word("unlimited".to_owned())),
            Self::Auto => Some(Rate::Word("auto".to_owned())),
            Self::Default => None,
        }
    }
}

pub(crate) fn drain_rate(text: &str) -> Result<WantedRate, String> {
    match text {
        "unlimited" => Ok(WantedRate::Unlimited),
        "auto" => Ok(WantedRate::Auto),
        "default" => Ok(WantedRate::Default),
        _ => {
            let rate = text.parse().ok().filter(|rate| (1..=1_000_000).contains(rate));
            let allowed = "give orders a second from 1 to 1000000, such as 2000, or `auto`, `unlimited` or `default`; `seckill drain pause` stops \
                           the workers";
            rate.map(WantedRate::PerSecond).ok_or_else(|| allowed.to_owned())
        }
    }
}

/// The id of an event.
pub(crate) fn event_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| {
        "an event's id looks like 01a21a7f-fed2-771c-85bf-a914b6af2a2f; `seckill outbox list` shows the ids".to_owned()
    })
}

/// The id of a ledger.
pub(crate) fn ledger_id(text: &str) -> Result<Uuid, String> {
    let form = "a ledger's id looks like 01a21a7f-fed2-771c-85bf-a914b6af2a2f; it is the end of every event's `source`";
    text.parse().map_err(|_| form.to_owned())
}

/// The name of a subscriber that is not part of seckill. Whoever received under such a name would take events away from the part
/// that needs them.
pub(crate) fn foreign_subscriber(text: &str) -> Result<SubscriberName, String> {
    match refund_steps::subscriber_names().find(|name| *name == text) {
        Some(name) => {
            Err(format!("seckill itself receives under the name {name}; give another one, such as my-{name}"))
        }
        None => text.parse(),
    }
}

/// Where events are posted to.
pub(crate) fn webhook(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("{error}; give an address such as https://example.com/events"))?;
    seckill_events::webhook::check(&url).map(|()| url)
}

/// A length of time as whole milliseconds.
pub(crate) fn millis(time: Duration) -> anyhow::Result<u64> {
    u64::try_from(time.as_millis()).map_err(|_| anyhow::anyhow!("{time:?} is too long"))
}

/// The address of a gateway or worker: a URL, or a host and a port.
pub(crate) fn server(text: &str) -> Result<Url, String> {
    let form = || "give an address such as http://127.0.0.1:8080 or 127.0.0.1:8080".to_owned();
    let url = match text.contains("://") {
        true => Url::parse(text),
        // A port is needed here: what has none may as well be a word that got here by mistake.
        false if has_port(text) => Url::parse(&format!("http://{text}")),
        false => return Err(form()),
    };
    let url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(form)?;
    match url.path() {
        "/" => Ok(url),
        path => Err(format!("give the address without the path {path}, such as http://127.0.0.1:8080")),
    }
}

fn has_port(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    host.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Where to listen: a host and a port. A port alone is one of this machine only, because an open door must be asked for.
pub(crate) fn listen(text: &str) -> Result<String, String> {
    let everybody = "such as 127.0.0.1:8080 for this machine only, or 0.0.0.0:8080 for everybody";
    if text.parse::<u16>().is_ok() {
        return Ok(format!("127.0.0.1:{text}"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("give a host and a port, {everybody}"))?;
    if host.contains('/') {
        return Err(format!("give a host and a port without http://, {everybody}"));
    }
    if host.is_empty() {
        return Err(format!("say on which address, {everybody}"));
    }
    if port.parse::<u16>().is_err() {
        return Err(format!("{port:?} is no port, which is a number from 0 to 65535; give one {everybody}"));
    }
    Ok(text.to_owned())
}

/// A length of time.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "give a time with its unit, such as 500ms, 30s or 1h30m".to_owned())
}
