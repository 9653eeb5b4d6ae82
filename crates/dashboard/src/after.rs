//! What waits after the commit of orders: events in the outbox, and events that subscribers have yet to take in.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::process::Process;

/// The outbox and the subscribers as the page shows them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AfterView {
    outbox_pending: u64,
    outbox_parked: u64,
    outbox_age_seconds: f64,
    subscribers: Vec<SubscriberView>,
}

/// A built-in subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct SubscriberView {
    name: String,
    waiting_events: u64,
    parked_events: u64,
}

impl AfterView {
    /// As the processes report it. All of them read it from the same servers, a moment apart, so the largest numbers are taken.
    /// `None` while no process has read the outbox.
    pub(crate) fn of<'a>(processes: impl Iterator<Item = &'a Process>) -> Option<Self> {
        Self::of_series(processes.flat_map(|process| &process.last().series))
    }

    fn of_series<'a>(series: impl Iterator<Item = (&'a String, &'a f64)>) -> Option<Self> {
        let mut most = BTreeMap::<&str, f64>::new();
        for (key, &value) in series {
            most.entry(key).and_modify(|known| *known = known.max(value)).or_insert(value);
        }
        let outbox = |name| most.get(name).copied();
        let count = |value: Option<f64>| value.unwrap_or_default() as u64;
        let waiting = most.iter().filter_map(|(key, &events)| {
            let labels = key.strip_prefix("seckill_subscriber_waiting_events")?;
            let name = labels.strip_prefix("{subscriber=\"")?.strip_suffix("\"}")?;
            let parked = most.get(format!("seckill_subscriber_parked_events{labels}").as_str()).copied();
            Some(SubscriberView {
                name: name.to_owned(),
                waiting_events: events as u64,
                parked_events: count(parked),
            })
        });
        Some(Self {
            outbox_pending: outbox("seckill_outbox_pending_events")? as u64,
            outbox_parked: count(outbox("seckill_outbox_parked_events")),
            outbox_age_seconds: outbox("seckill_outbox_age_seconds").unwrap_or_default(),
            subscribers: waiting.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::scrape;

    #[test]
    fn the_largest_number_of_all_processes_is_shown() {
        let worker = |pending: u32| {
            scrape(&format!(
                "seckill_outbox_pending_events {pending}\nseckill_outbox_age_seconds 1.5\n\
                 seckill_subscriber_waiting_events{{subscriber=\"restock\"}} {pending}\n\
                 seckill_subscriber_parked_events{{subscriber=\"restock\"}} 2\n\
                 seckill_subscriber_waiting_events{{subscriber=\"funnel\"}} 0\n"
            ))
            .0
        };
        let (one, other) = (worker(3), worker(7));
        let subscriber = |name: &str, waiting_events, parked_events| SubscriberView {
            name: name.to_owned(),
            waiting_events,
            parked_events,
        };
        let shown = AfterView {
            outbox_pending: 7,
            outbox_parked: 0,
            outbox_age_seconds: 1.5,
            subscribers: vec![subscriber("funnel", 0, 0), subscriber("restock", 7, 2)],
        };
        assert_eq!(AfterView::of_series(one.iter().chain(&other)), Some(shown));
        assert_eq!(AfterView::of_series(BTreeMap::new().iter()), None);
    }
}
