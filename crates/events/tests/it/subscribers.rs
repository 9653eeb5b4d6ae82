//! The built-in subscribers: one effect an event, however often and in whatever order it comes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Backend, CancelReason, Claim, Decision, Event, EventBody, EventMessage, EventOrder, Fault, NewSale,
    OrderId, Orders, OutboxState, Refund, Sale, SaleId, Step, UserId, Verdict,
};
use seckill_events::subscriber::Subscriber;
use seckill_events::{inbox, relay, subscribers};
use seckill_testkit::eventually;
use seckill_testkit::fixtures::{EPOCH, audit, claim, level, new_sale, open};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::setup::{SOON, back_end, event, order, paid, subscribe, take, write};

/// The relay and all subscribers.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(backend: &Backend) -> Self {
        Self::with(backend, subscribers::all())
    }

    /// The relay and these subscribers.
    fn with(backend: &Backend, subscribers: Vec<Arc<dyn Subscriber>>) -> Self {
        let stop = CancellationToken::new();
        let relay = relay::run(backend.clone(), stop.clone());
        let running = seckill_events::run(backend.clone(), subscribers, relay, stop.clone());
        let task = tokio::spawn(running);
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Waits until every subscriber has taken in all that was published to it.
async fn quiet(backend: &Backend) {
    eventually(SOON, async || {
        let depth = backend.outbox.depth().await.unwrap();
        if depth.pending > 0 {
            return Err(format!("{depth:?}"));
        }
        for name in subscribers::NAMES {
            let waiting = backend.events.waiting(&name.parse().unwrap()).await.unwrap();
            if waiting.is_none_or(|waiting| waiting.events > 0) {
                return Err(format!("{name}: {waiting:?}"));
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until every subscriber keeps what is published from now on.
async fn subscribed(backend: &Backend) {
    eventually(SOON, async || {
        for name in subscribers::NAMES {
            if backend.events.waiting(&name.parse().unwrap()).await.unwrap().is_none() {
                return Err(name);
            }
        }
        Ok(())
    })
    .await;
}

async fn publish(backend: &Backend, message: &EventMessage) {
    backend.events.publisher().await.unwrap().publish(message).await.unwrap();
}

/// A sale with payments, and orders of it that went all the way into the ledger.
async fn sold(backend: &Backend, stock: u32, users: std::ops::Range<u64>) -> (Sale, Vec<Claim>) {
    let sale = open(backend, &NewSale { payment_window_ms: Some(3_600_000), ..new_sale(stock, 1) }).await;
    let claims: Vec<_> = users.map(claim).collect();
    let reserved = backend.gate.reserve(sale.id, EPOCH, &[], &claims).await.unwrap();
    backend.gate.settle(sale.id, &[reserved.reservation.unwrap()]).await.unwrap();
    commit(backend, &sale, &claims).await;
    (sale, claims)
}

async fn commit(backend: &Backend, sale: &Sale, claims: &[Claim]) {
    let order = |claim: &Claim| seckill_core::Order { sale_id: sale.id, epoch: EPOCH, claim: *claim };
    let orders: Vec<_> = claims.iter().map(order).collect();
    backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
}

/// Cancels orders as expiry does; the event.
async fn cancel(backend: &Backend, ids: &[OrderId]) -> Event {
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let from = transaction.lock_orders(ids, false).await.unwrap();
    let reason = Some(CancelReason::Expired);
    let to: Vec<_> = from.iter().map(|order| order.after(Step::Cancel, reason).unwrap()).collect();
    transaction.move_orders(&from, &to).await.unwrap();
    let orders = to.iter().map(EventOrder::from).collect();
    let event = event(EventBody::OrderCancelled(Orders { sale_id: to[0].sale_id, reason, orders }));
    transaction.add_event(&event).await.unwrap();
    transaction.commit().await.unwrap();
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_cancelled_orders_are_on_sale_again_once_also_where_the_event_comes_three_times() {
    let (_folder, backend) = back_end().await;
    let running = Running::start(&backend);
    subscribed(&backend).await;
    let (sale, claims) = sold(&backend, 3, 0..3).await;
    assert_eq!(level(&backend, sale.id).await.remaining, 0);
    let told = cancel(&backend, &[claims[0].order_id, claims[1].order_id]).await;
    quiet(&backend).await;
    let message = told.message();
    publish(&backend, &message).await;
    publish(&backend, &message).await;
    quiet(&backend).await;
    assert_eq!(level(&backend, sale.id).await.remaining, 2);
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.verdict, report.sold, report.returning), (Verdict::Clean, 1, 0), "{report:?}");

    // User 0 buys again. The old event, once more, does not take the new order away.
    let again = claim(0);
    // The units are withheld for a moment, because none were left.
    eventually(SOON, async || {
        let reserved = backend.gate.reserve(sale.id, EPOCH, &[], &[again]).await.unwrap();
        if reserved.decisions == [Decision::Reserved] { Ok(()) } else { Err(reserved) }
    })
    .await;
    commit(&backend, &sale, &[again]).await;
    publish(&backend, &message).await;
    quiet(&backend).await;
    assert_eq!(level(&backend, sale.id).await.remaining, 1);
    let found = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((found.sold, found.ended.returned_orders), (2, 2));
    running.stop().await;
}

/// Nobody buys any more, but the stock must add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_orders_that_are_cancelled_after_the_end_of_the_sale_return_to_the_gate_once() {
    let (_folder, backend) = back_end().await;
    let running = Running::start(&backend);
    subscribed(&backend).await;
    let ends_at = seckill_core::now() + chrono::Duration::seconds(2);
    let new = NewSale { payment_window_ms: Some(3_600_000), ends_at, ..new_sale(3, 1) };
    let sale = open(&backend, &new).await;
    let claims: Vec<_> = (0..2).map(claim).collect();
    let reserved = backend.gate.reserve(sale.id, EPOCH, &[], &claims).await.unwrap();
    backend.gate.settle(sale.id, &[reserved.reservation.unwrap()]).await.unwrap();
    commit(&backend, &sale, &claims).await;
    eventually(SOON, async || if seckill_core::now() > ends_at { Ok(()) } else { Err(ends_at) }).await;
    let late = backend.gate.reserve(sale.id, EPOCH, &[], &[claim(9)]).await.unwrap().decisions;
    assert_eq!(late, [Decision::Closed]);
    let told = cancel(&backend, &[claims[0].order_id, claims[1].order_id]).await;
    quiet(&backend).await;
    publish(&backend, &told.message()).await;
    quiet(&backend).await;
    assert_eq!(level(&backend, sale.id).await.remaining, 3);
    let found = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((found.sold, found.ended.returned_orders), (0, 2));
    running.stop().await;
}

/// The gate was rebuilt between the cancellation and its event: its units are on sale already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_was_rebuilt_meanwhile_gets_no_unit_twice() {
    let (_folder, backend) = back_end().await;
    let (sale, claims) = sold(&backend, 3, 0..3).await;
    cancel(&backend, &[claims[0].order_id]).await;
    let now = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    let holders = &claims[1..];
    backend.gate.fence(sale.id, EPOCH + 1).await.unwrap();
    backend.gate.stage_refill(sale.id, EPOCH + 1, true, holders).await.unwrap();
    backend.gate.finish_refill(&now, EPOCH + 1, now.stock - now.sold, 2).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 1);
    let running = Running::start(&backend);
    eventually(SOON, async || {
        let sale = backend.ledger.sale(sale.id).await.unwrap().unwrap();
        if sale.ended.returned_orders == 1 { Ok(()) } else { Err(sale) }
    })
    .await;
    assert_eq!(level(&backend, sale.id).await.remaining, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_three_times_gives_points_notices_and_counts_once() {
    let (_folder, backend) = back_end().await;
    let running = Running::start(&backend);
    subscribed(&backend).await;
    let sale = open(&backend, &new_sale(10, 1)).await.id;
    let orders = vec![order(1), order(2)];
    let told = paid(sale, orders.clone());
    write(&backend, std::slice::from_ref(&told)).await;
    for _ in 0..2 {
        publish(&backend, &told.message()).await;
    }
    quiet(&backend).await;
    assert_eq!(backend.lifecycle.points(UserId(1)).await.unwrap(), 12);
    let notices = backend.lifecycle.notices(orders[0].order_id).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].kind.as_str(), notices[0].user_id), ("order.paid", UserId(1)));
    let funnel = backend.lifecycle.funnel(sale).await.unwrap();
    assert_eq!((funnel.len(), funnel[0].orders, funnel[0].amount_cents), (1, 2, 2_468));

    let back = Refund { sale_id: sale, order: orders[0], returns_units: true, reason: None, way: None };
    write(&backend, &[event(EventBody::RefundSucceeded(back))]).await;
    quiet(&backend).await;
    assert_eq!(backend.lifecycle.points(UserId(1)).await.unwrap(), 0);
    assert_eq!(backend.outbox.list(OutboxState::Sent, 10).await.unwrap().len(), 2);
    running.stop().await;
}

/// Events that were written before any subscriber was ever there, and a relay that starts together with the subscribers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_events_ever_reach_every_built_in_subscriber() {
    let (_folder, backend) = back_end().await;
    let (sale, claims) = sold(&backend, 3, 0..3).await;
    cancel(&backend, &[claims[0].order_id]).await;
    write(&backend, &[paid(sale.id, vec![order(8)])]).await;
    let running = Running::start(&backend);
    quiet(&backend).await;
    assert_eq!(level(&backend, sale.id).await.remaining, 1);
    assert_eq!(backend.lifecycle.points(UserId(8)).await.unwrap(), 12);
    assert_eq!(backend.lifecycle.notices(claims[0].order_id).await.unwrap().len(), 1);
    let stages: Vec<_> = backend.lifecycle.funnel(sale.id).await.unwrap();
    let stages: Vec<_> = stages.iter().map(|count| (count.stage.as_str(), count.orders)).collect();
    assert_eq!(stages, [("order.cancelled", 1), ("order.committed", 3), ("order.paid", 1)]);
    running.stop().await;
}

/// The bus was emptied after it had confirmed an event and before anybody took it in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_bus_has_lost_is_sent_again() {
    let (_folder, backend) = back_end().await;
    let running = Running::start(&backend);
    subscribed(&backend).await;
    let (sale, claims) = sold(&backend, 3, 0..3).await;
    quiet(&backend).await;
    running.stop().await;
    let lost = cancel(&backend, &[claims[0].order_id]).await;
    backend.outbox.mark_sent(&[lost.id]).await.unwrap();

    let running = Running::start(&backend);
    let mut sent_again = 0;
    for subscriber in subscribers::all() {
        // Only events of some age count as lost.
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        assert_eq!(relay::send_lost_again(&backend, &*subscriber, minute..=day).await.unwrap(), Some(0));
        let lost = relay::send_lost_again(&backend, &*subscriber, Duration::ZERO..=day).await.unwrap();
        sent_again += lost.unwrap();
        quiet(&backend).await;
    }
    assert_eq!(sent_again, 1, "once it is sent again, everybody who wants it gets it");
    assert_eq!(level(&backend, sale.id).await.remaining, 1);
    assert_eq!(audit(&backend, sale.id).await.verdict, Verdict::Clean);
    running.stop().await;
}

/// An event of a newer version is no reason to stop: it is parked for whoever asked for it, and the next one comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_read_is_parked_and_the_next_one_comes() {
    let (_folder, backend) = back_end().await;
    let running = Running::start(&backend);
    subscribed(&backend).await;
    let sale = open(&backend, &new_sale(10, 1)).await.id;
    let unknown = EventMessage {
        id: Uuid::now_v7(),
        kind: "refund.lost".into(),
        text: r#"{"type":"refund.lost"}"#.into(),
    };
    publish(&backend, &unknown).await;
    write(&backend, &[paid(sale, vec![order(5)])]).await;
    quiet(&backend).await;
    assert_eq!(backend.lifecycle.points(UserId(5)).await.unwrap(), 12);
    let waiting = backend.events.waiting(&"notifications".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(waiting.parked, 1);
    running.stop().await;
}

/// Waits with its first event until it has taken in another.
struct Waiting {
    first: Mutex<Option<Uuid>>,
    second: Notify,
}

#[async_trait]
impl Subscriber for Waiting {
    fn name(&self) -> &'static str {
        "waiting"
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["order.paid"]
    }

    fn at_once(&self) -> usize {
        2
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let first = *self.first.lock().unwrap().get_or_insert(event.id);
        if first == event.id {
            self.second.notified().await;
        } else {
            self.second.notify_one();
        }
        inbox::once(backend, self.name(), event.id, &[]).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_waits_for_somebody_outside_does_not_hold_up_the_next_one() {
    let (_folder, backend) = back_end().await;
    let subscriber = Arc::new(Waiting { first: Mutex::default(), second: Notify::new() });
    let running = Running::with(&backend, vec![subscriber]);
    let name = "waiting".parse().unwrap();
    eventually(SOON, async || backend.events.waiting(&name).await.unwrap().ok_or("not subscribed")).await;
    let sale = open(&backend, &new_sale(10, 1)).await.id;
    write(&backend, &[paid(sale, vec![order(5)]), paid(sale, vec![order(6)])]).await;
    eventually(SOON, async || {
        let (depth, waiting) =
            (backend.outbox.depth().await.unwrap(), backend.events.waiting(&name).await.unwrap());
        if depth.pending == 0 && waiting.is_some_and(|waiting| waiting.events == 0) {
            Ok(())
        } else {
            Err((depth, waiting))
        }
    })
    .await;
    running.stop().await;
}

/// Answers an event with another one, as the steps of a refund do.
struct Answering;

#[async_trait]
impl Subscriber for Answering {
    fn name(&self) -> &'static str {
        "answering"
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["order.paid"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let orders = Orders { sale_id: SaleId(1), reason: None, orders: vec![order(1)] };
        write(backend, &[self::event(EventBody::OrderCancelled(orders))]).await;
        inbox::once(backend, self.name(), event.id, &[]).await
    }
}

#[tokio::test]
async fn what_follows_from_an_event_goes_on_with_its_trace() {
    let (_folder, backend) = back_end().await;
    let running = Running::with(&backend, vec![Arc::new(Answering)]);
    let name = "answering".parse().unwrap();
    eventually(SOON, async || backend.events.waiting(&name).await.unwrap().ok_or("not subscribed")).await;
    let mut answers = subscribe(&backend, "answers").await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let mut cause = paid(SaleId(1), vec![order(1)]);
    cause.traceparent = Some(traceparent.clone());
    write(&backend, &[cause]).await;
    for message in take(&mut *answers, 2).await {
        assert_eq!(message.event().unwrap().traceparent.as_ref(), Some(&traceparent), "{}", message.kind);
    }
    running.stop().await;
}
