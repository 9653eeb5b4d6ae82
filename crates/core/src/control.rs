//! What every process tells about itself four times a second, and what all of them are told: the dashboard's numbers and
//! settings. Nothing here is on the path of an order, and no order depends on it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Timestamp, now};

/// Orders a second that all workers together may write to the ledger; of one worker, its share of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DrainRate {
    /// As fast as the ledger commits.
    Unlimited,
    /// At most this many.
    PerSecond(NonZeroU32),
    /// None until the rate is changed.
    Paused,
    /// What each worker finds the ledger to be safe with, by how long its commits take.
    Auto,
}

impl std::fmt::Display for DrainRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::PerSecond(rate) => rate.fmt(f),
            Self::Paused => f.write_str("paused"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl std::str::FromStr for DrainRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            "paused" => Ok(Self::Paused),
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::PerSecond).map_err(|_| {
                format!("{text:?} is no drain rate: give orders a second, such as 2000, or `auto`, `unlimited` or `paused`")
            }),
        }
    }
}

impl From<DrainRate> for String {
    fn from(rate: DrainRate) -> Self {
        rate.to_string()
    }
}

impl TryFrom<String> for DrainRate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// One life of a process: another one after each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub Uuid);

impl ProcessId {
    /// A new one.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes orders.
    Gateway,
    /// Drains the queue.
    Worker,
}

/// One process at one moment: its own Prometheus metrics, and what it is doing about the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whose it is.
    pub process: ProcessId,
    /// Its name for people, such as `worker at 7f3a:8081`.
    pub name: String,
    /// What it does just now.
    pub roles: Vec<Role>,
    /// Milliseconds since it started, by a clock that never jumps.
    pub uptime_ms: u64,
    /// Counters and gauges as `/metrics` has them, by name with labels: `seckill_claims_total{outcome="accepted"}`.
    pub series: BTreeMap<String, f64>,
    /// Histograms as `/metrics` has them, by name, summed over their labels.
    pub histograms: BTreeMap<String, Histogram>,
    /// The drain rate in force at its worker: of a number, or `auto`, its share; `None` where no worker runs.
    pub drain_rate: Option<DrainRate>,
    /// The drain rate of all workers together, as its worker was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_told: Option<DrainRate>,
    /// The settings that it has applied.
    pub settings_revision: u64,
    /// The faults that it makes just now.
    pub faults: Vec<FaultKind>,
    /// The load run inside it, as the dashboard shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<serde_json::Value>,
    /// What its `/readyz` answers; `None` before it has looked for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
}

/// Whether a process can work, as its `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Readiness {
    /// `ready`, `degraded`, `unready` or `draining`.
    pub status: String,
    /// The parts of the back end that cannot be used (`gate`, `queue`, `ledger`), each with the reason.
    pub down: BTreeMap<String, String>,
    /// What is wrong with the sales; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sales: Option<String>,
}

/// Values by size, cumulative as Prometheus has them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// Upper bounds, ascending, and how many values are at most as large.
    pub buckets: Vec<(f64, f64)>,
    /// All values added up.
    pub sum: f64,
    /// How many there are.
    pub count: f64,
}

/// Trouble that a demonstration makes on purpose. None of it may break an invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Every commit takes longer, by so many milliseconds.
    SlowCommits,
    /// So many percent of the messages are in the queue twice.
    DuplicateDeliveries,
    /// So many percent of the queue's confirms never reach the gateway.
    LostConfirms,
    /// Every call to the bank takes longer, by so many milliseconds.
    SlowBank,
    /// The bank does what it is asked to, and so many percent of its answers are lost.
    BankTimeouts,
    /// The relay dies between publishing events and recording that they are sent, and is back when the fault ends.
    RelayKilled,
    /// One of the built-in subscribers receives nothing until the fault ends.
    SubscriberAway,
    /// So many percent of the events are on the bus twice.
    DoubledEvents,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SlowCommits,
        Self::DuplicateDeliveries,
        Self::LostConfirms,
        Self::SlowBank,
        Self::BankTimeouts,
        Self::RelayKilled,
        Self::SubscriberAway,
        Self::DoubledEvents,
    ];
}

/// How much of a fault there is, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveFault {
    /// Milliseconds or percent, by its kind; 1 where it is there or not.
    pub amount: u32,
    /// It ends by itself at this moment, whoever may have died meanwhile.
    pub until: Timestamp,
}

/// An order to a worker to crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashOrder {
    /// The process that it runs in.
    pub process: ProcessId,
    /// The settings' revision that brought the order: a worker inside a gateway may be told to crash again and again.
    pub revision: u64,
}

/// What all processes are told. Outside of demonstrations workers apply the drain rate and the pause, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Counts the changes; 0 when there was none.
    pub revision: u64,
    /// The drain rate of all workers together; `None`: the one that each was started with.
    pub drain_rate: Option<DrainRate>,
    /// Whether the workers are told to write nothing.
    pub paused: bool,
    /// Trouble to make.
    pub faults: BTreeMap<FaultKind, ActiveFault>,
    /// The worker that is to crash.
    pub crash: Option<CrashOrder>,
    /// The load run that is to stop.
    pub stop_load: Option<String>,
}

impl Settings {
    /// The drain rate in force at a worker that was started with `started_with`.
    pub fn worker_rate(&self, started_with: DrainRate) -> DrainRate {
        if self.paused { DrainRate::Paused } else { self.drain_rate.unwrap_or(started_with) }
    }

    /// How much of a fault to make now; 0: none.
    pub fn amount(&self, kind: FaultKind) -> u32 {
        self.faults.get(&kind).filter(|fault| fault.until > now()).map_or(0, |fault| fault.amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_rate_reads_back_as_written() {
        for text in ["unlimited", "paused", "auto", "7"] {
            let rate: DrainRate = text.parse().unwrap();
            assert_eq!(rate.to_string(), text);
            assert_eq!(serde_json::to_value(rate).unwrap(), text);
        }
        assert!("0".parse::<DrainRate>().is_err());
        assert!("fast".parse::<DrainRate>().unwrap_err().contains("such as 2000"));
    }

    #[test]
    fn a_pause_goes_before_every_rate() {
        let started_with = DrainRate::Unlimited;
        let mut settings = Settings::default();
        assert_eq!(settings.worker_rate(started_with), started_with);
        settings.drain_rate = Some("7".parse().unwrap());
        assert_eq!(settings.worker_rate(started_with).to_string(), "7");
        settings.paused = true;
        assert_eq!(settings.worker_rate(started_with), DrainRate::Paused);
    }

    #[test]
    fn a_fault_ends_by_itself() {
        let fault = |seconds| ActiveFault { amount: 300, until: now() + chrono::Duration::seconds(seconds) };
        let mut settings = Settings::default();
        assert_eq!(settings.amount(FaultKind::SlowCommits), 0);
        settings.faults.insert(FaultKind::SlowCommits, fault(60));
        assert_eq!(settings.amount(FaultKind::SlowCommits), 300);
        settings.faults.insert(FaultKind::SlowCommits, fault(-1));
        assert_eq!(settings.amount(FaultKind::SlowCommits), 0);
    }
}
