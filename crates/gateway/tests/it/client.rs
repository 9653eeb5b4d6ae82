//! The typed client: it has every call of the API's document, and reads what a gateway answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use seckill_client::{
    Admin, Buyer, CALLS, Client, Coupon, DependencyStatus, Error, InletState, OrderRequest, PaymentBody,
    PaymentStatus, PlaceState, ProblemKind, Rate, Readiness, Reason, SalePatch, WorkersBody, found,
};
use seckill_core::money::SagaState;
use seckill_core::{
    CancelReason, Dependency, DrainRate, NewSale, OrderId, OrderStatus, OutboxState, RoomTerms, SaleId,
    UserId, Verdict, now,
};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use seckill_token::challenge::{Challenge, solve};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::gateway::{ADMIN_TOKEN, Gateway, token};
use crate::test_bed::{SOON, TestBed};

/// Everybody's calls, and the admin's.
fn clients(gateway: &Gateway) -> (Client, Admin) {
    let client =
        Client::new(format!("http://{}", gateway.address).parse().expect("a URL")).expect("a client");
    let admin = client.admin(ADMIN_TOKEN.into());
    (client, admin)
}

fn buyer(client: &Client, user: u64) -> Buyer {
    client.buyer(token(user).into())
}

/// A sale of ten units for 2.50 each, open for an hour.
fn new_sale() -> NewSale {
    let (starts_at, ends_at) = (now() - chrono::TimeDelta::minutes(1), now() + chrono::TimeDelta::hours(1));
    let sale =
        json!({"name": "phone", "stock": 10, "price_cents": 250, "starts_at": starts_at, "ends_at": ends_at});
    serde_json::from_value(sale).expect("a sale")
}

async fn create(admin: &Admin, sale: &NewSale) -> SaleId {
    admin.create_sale_once(sale, None).await.expect("a sale").value.sale.id
}

/// What was refused, and with what.
#[track_caller]
fn kind<T: std::fmt::Debug>(answer: Result<T, Error>) -> ProblemKind {
    let error = answer.expect_err("it is refused");
    error.kind().unwrap_or_else(|| panic!("{error:?} is no refusal")).clone()
}

/// Whether a call is made by the page or by the bank. The page's calls change with the page, and what the bank says is signed.
fn is_of_others(path: &str, operation: &Value) -> bool {
    operation["tags"] == json!(["Page and demonstration"]) || path == "/api/v1/bank/news"
}

#[test]
fn every_call_of_the_document_is_in_the_client() {
    let document: Value =
        serde_json::from_str(&seckill_gateway::http::openapi()).expect("the document is JSON");
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let operations = item.as_object().expect("operations").iter();
            let calls = operations.filter(|(_, it)| it["responses"].is_object() && !is_of_others(path, it));
            calls.map(|(method, _)| (path.clone(), method.to_uppercase()))
        })
        .collect();
    let known: BTreeSet<_> =
        CALLS.iter().map(|call| (call.path.to_owned(), call.method.to_owned())).collect();
    assert_eq!(known, described);
    assert_eq!(known.len(), CALLS.len(), "no call is there twice");
}

#[tokio::test]
async fn everybody_reads_sales_problems_and_health() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (client, admin) = clients(&gateway);
    let sale = create(&admin, &new_sale()).await;
    let shown = client.sale(sale).await.unwrap();
    assert_eq!((shown.sale.id, shown.sale.stock, shown.remaining), (sale, 10, Some(10)));
    eventually(SOON, async || {
        let list = client.sales().await.unwrap().sales;
        if list.iter().any(|one| one.id == sale) { Ok(()) } else { Err(list) }
    })
    .await;
    assert_eq!(client.audit(sale).await.unwrap().report.verdict, Verdict::Clean);
    assert_eq!(kind(client.waiting_room(sale).await), ProblemKind::NoWaitingRoom);
    assert_eq!(found(client.sale(SaleId(99)).await), Ok(None));

    let kinds: BTreeMap<_, _> =
        client.problems().await.unwrap().into_iter().map(|kind| (kind.slug.clone(), kind)).collect();
    for (slug, described) in &kinds {
        let kind = ProblemKind::from(slug.as_str());
        assert_eq!(kind.what_to_do(), Some(described.what_to_do.as_str()));
        assert_eq!(client.problem(slug).await.unwrap(), *described);
    }
    assert_eq!(kind(client.problem("../problems").await), ProblemKind::NotFound);
    assert_eq!(client.openapi().await.unwrap()["openapi"], "3.1.0");

    client.alive().await.unwrap();
    assert!(client.metrics().await.unwrap().contains("http_server_request_duration_seconds"));
    let report = client.readiness().await.unwrap();
    assert_eq!((report.status, report.backend.as_str()), (Readiness::Ready, "embedded"));
    assert!(report.dependencies.values().all(|one| one.status == DependencyStatus::Up), "{report:?}");
    bed.faults.away(Dependency::Ledger);
    let report = eventually(SOON, async || match client.readiness().await.unwrap() {
        report if report.status == Readiness::Ready => Err(report),
        report => Ok(report),
    })
    .await;
    assert_eq!(report.dependencies["ledger"].status, DependencyStatus::Down, "{report:?}");
}

#[tokio::test]
async fn an_order_is_placed_replayed_followed_paid_and_refunded() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (client, admin) = clients(&gateway);
    let sale = create(&admin, &NewSale { payment_window_ms: Some(3_600_000), ..new_sale() }).await;
    let buyer = buyer(&client, 7);
    let placed = buyer.order(sale, &OrderRequest::units(1), None).await.unwrap();
    assert_eq!((placed.value.status, placed.replayed), (OrderStatus::Queued, false));
    let order = placed.value.order_id;
    let again = buyer.order(sale, &OrderRequest::default(), None).await.unwrap();
    assert_eq!((again.value.order_id, again.replayed), (order, true));

    let mut events = buyer.order_events(order).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().status, OrderStatus::Queued);
    bed.drain().await;
    let committed = events.next().await.unwrap().unwrap();
    assert_eq!((committed.status, committed.amount_cents), (OrderStatus::Committed, Some(250)));
    assert!(committed.pay_by > committed.recorded_at, "{committed:?}");
    assert_eq!(buyer.orders(sale).await.unwrap().orders.len(), 1);

    let by_balance = PaymentBody {
        balance_cents: 200,
        coupon: Some("SPRING".into()),
        coupon_cents: 50,
        ..Default::default()
    };
    assert_eq!(kind(buyer.pay(order, &by_balance, "key").await), ProblemKind::BadCoupon);
    let coupon = Coupon { code: "SPRING".into(), cents: 50 };
    assert_eq!(admin.add_coupon(&coupon).await.unwrap(), coupon);
    assert_eq!(kind(buyer.pay(order, &by_balance, "key").await), ProblemKind::BalanceTooLow);
    assert_eq!(admin.give_balance(UserId(7), 300).await.unwrap().balance_cents, 300);
    let paid = buyer.pay(order, &by_balance, "key").await.unwrap();
    assert_eq!((paid.order_id, paid.status), (order, PaymentStatus::Paid));
    assert_eq!(buyer.pay(order, &by_balance, "key").await.unwrap(), paid);
    assert_eq!(kind(buyer.pay(order, &PaymentBody::default(), "key").await), ProblemKind::Invalid);
    assert_eq!(events.next().await.unwrap().unwrap().status, OrderStatus::Paid);
    assert!(events.next().await.is_none(), "nothing more happens by itself");
    let refused = buyer.cancel(order).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(
        (&problem.kind, problem.status, problem.order_id),
        (&ProblemKind::OrderState, 409, Some(order))
    );
    assert!(!refused.may_have_happened());

    assert_eq!(buyer.refund(order, "too small").await.unwrap().status, OrderStatus::Refunding);
    let running = admin.refunds(SagaState::Running).await.unwrap().refunds;
    assert_eq!((running[0].order_id, running[0].refund.reason.as_str()), (order, "too small"));
    assert_eq!(admin.refunds(SagaState::Held).await.unwrap().refunds, []);
    assert_eq!(kind(admin.approve_refund(order, "").await), ProblemKind::OrderState);
    assert_eq!(kind(admin.deny_refund(order, "no").await), ProblemKind::OrderState);
    let timeline = buyer.timeline(order).await.unwrap();
    assert_eq!(
        (timeline.status, timeline.steps[0].what.as_str()),
        (OrderStatus::Refunding, "order.accepted")
    );
    assert_eq!(admin.timeline(order).await.unwrap(), timeline);

    let other = crate::client::buyer(&client, 8);
    let given_back = other.order(sale, &OrderRequest::default(), None).await.unwrap().value.order_id;
    bed.drain().await;
    let given_back = other.cancel(given_back).await.unwrap();
    assert_eq!(given_back.reason, Some(Reason::Cancelled(CancelReason::Buyer)));
    assert_eq!(found(other.order_status(order).await), Ok(None), "it is another user's");
    assert_eq!(admin.fresh_audit(sale).await.unwrap().report.money.unwrap().charged_cents, 250);
    let effects = admin.effects(sale).await.unwrap();
    assert!(effects.effects.iter().any(|one| one.subscriber == "restock"), "{effects:?}");
    let mut rows: Vec<_> = admin.recorded_orders(sale).await.unwrap().map(Result::unwrap).collect().await;
    rows.sort_by_key(|row| row.user_id.0);
    let rows: Vec<_> = rows.iter().map(|row| (row.user_id.0, row.status)).collect();
    assert_eq!(rows, [(7, OrderStatus::Refunding), (8, OrderStatus::Cancelled)]);
}

#[tokio::test]
async fn an_admin_changes_sales_and_workers_and_sees_to_events_and_messages() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (client, admin) = clients(&gateway);
    let made = admin.create_sale(&new_sale(), "release-7", |_| panic!("once is enough")).await.unwrap();
    let sale = made.value.sale.id;
    assert!(!made.replayed);
    let buyer = buyer(&client, 7);
    buyer.order(sale, &OrderRequest::default(), None).await.unwrap();
    let patch = SalePatch { name: Some("tablet".into()), stock: Some(11), ..SalePatch::default() };
    let changed = admin.change_sale(sale, &patch).await.unwrap();
    assert!(changed.applied);
    assert_eq!((changed.sale.sale.name.as_str(), changed.sale.remaining), ("tablet", Some(10)));
    assert!(admin.pause(sale).await.unwrap().sale.sale.paused);
    let other = crate::client::buyer(&client, 8);
    let paused = other.order(sale, &OrderRequest::default(), None).await.unwrap_err();
    let problem = paused.problem().unwrap();
    assert_eq!((&problem.kind, problem.retry_after), (&ProblemKind::Paused, Some(Duration::from_secs(5))));
    assert!(
        problem.request_id.is_some() && paused.to_string().contains("nothing was deducted"),
        "{paused:?}"
    );
    assert!(!admin.resume(sale).await.unwrap().sale.sale.paused);
    let wrong = other.order(sale, &OrderRequest::units(9), None).await.unwrap_err();
    assert_eq!(wrong.problem().unwrap().errors[0].field, "quantity");

    assert_eq!(admin.reconcile(sale).await.unwrap().compared, 1);
    assert!(admin.rebuild(sale).await.unwrap().rebuild.is_some());
    let rebuilding = other.order(sale, &OrderRequest::default(), None).await.unwrap_err();
    assert_eq!(rebuilding.kind(), Some(&ProblemKind::Rebuilding));
    assert!(rebuilding.problem().unwrap().retry_after.is_some());
    assert_eq!(admin.close(sale).await.unwrap().sale.phase, seckill_core::Phase::Closed);

    let change = WorkersBody { drain_rate: Some(Some(Rate::Number(2_000))), paused: Some(true) };
    let workers = admin.change_workers(&change).await.unwrap();
    assert_eq!((workers.drain_rate, workers.paused), ("2000".parse::<DrainRate>().ok(), true));
    let back = WorkersBody { drain_rate: Some(None), paused: None };
    admin.change_workers(&back).await.unwrap();
    let workers = admin.workers().await.unwrap();
    assert_eq!((workers.drain_rate, workers.paused, workers.revision), (None, true, 2));

    assert_eq!(admin.parked().await.unwrap().messages, []);
    // Whatever the id, it is one part of the path.
    for id in ["abc", "a/b?c#d", "../sales", "%2e%2e"] {
        assert_eq!(kind(admin.redrive_parked(id).await), ProblemKind::NotFound, "{id}");
        assert_eq!(kind(admin.discard_parked(id).await), ProblemKind::NotFound, "{id}");
    }
    // These two are no parts of a path at all.
    for id in ["..", "."] {
        assert!(matches!(admin.discard_parked(id).await.unwrap_err().status(), Some(404 | 405)), "{id}");
    }
    assert_eq!(kind(admin.subscriber("nobody").await), ProblemKind::NotFound);
    assert_eq!(kind(admin.unsubscribe("nobody").await), ProblemKind::NotFound);
    assert_eq!(admin.redrive_subscriber("nobody").await.map(|done| done.events).unwrap_or_default(), 0);
    assert_eq!(kind(client.admin("another token".into()).parked().await), ProblemKind::Unauthenticated);
}

#[tokio::test]
async fn an_admin_sees_the_outbox() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (client, admin) = clients(&gateway);
    let sale = create(&admin, &NewSale { payment_window_ms: Some(3_600_000), ..new_sale() }).await;
    buyer(&client, 7).order(sale, &OrderRequest::default(), None).await.unwrap();
    bed.drain().await;
    let outbox = admin.outbox(OutboxState::Pending).await.unwrap();
    assert_eq!((outbox.pending, outbox.parked, outbox.events.len()), (1, 0, 1));
    let event = admin.outbox_event(outbox.events[0].id).await.unwrap();
    let cloud_event: Value = serde_json::from_str(event.event.get()).unwrap();
    assert_eq!((event.kind.as_str(), &cloud_event["type"]), ("order.committed", &json!("order.committed")));
    admin.redrive_event(event.id).await.unwrap();
    assert_eq!(kind(admin.discard_event(event.id).await), ProblemKind::NotFound, "it is not parked");
}

#[tokio::test]
async fn a_buyer_waits_for_a_turn_and_works_for_a_ticket() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (client, admin) = clients(&gateway);
    let room = RoomTerms { opens_before_ms: 60_000, rate_per_second: 100 };
    let starts_at = now() + chrono::TimeDelta::seconds(2);
    let sale = NewSale {
        require_ticket: true,
        proof_of_work: true,
        waiting_room: Some(room),
        starts_at,
        ..new_sale()
    };
    let sale = create(&admin, &sale).await;
    let buyer = buyer(&client, 7);
    assert_eq!(kind(buyer.place(sale).await), ProblemKind::NotAdmitted);
    let place = buyer.enter(sale).await.unwrap();
    assert_eq!((place.number, place.position), (1, None));
    let refused = buyer.ticket(sale, None).await.unwrap_err();
    assert!(refused.problem().unwrap().retry_after.is_some(), "{refused:?}");
    assert_eq!(client.waiting_room(sale).await.unwrap().seed, None);
    let mut places = buyer.place_events(sale).await.unwrap();
    let admitted = loop {
        let place = places.next().await.expect("the stream goes on").unwrap();
        if place.state == PlaceState::Admitted {
            break place;
        }
    };
    assert_eq!((admitted.position, admitted.cloudflare.in_waiting_room), (Some(1), false));
    eventually(SOON, async || {
        let room = client.waiting_room(sale).await.unwrap();
        let shown =
            room.seed.map(|seed| seed.hash()) == room.seed_hash && room.state == InletState::Admitting;
        if shown && room.admitted == 1 { Ok(()) } else { Err(room) }
    })
    .await;
    assert_eq!(buyer.place(sale).await.unwrap().state, PlaceState::Admitted);
    assert_eq!(kind(buyer.ticket(sale, None).await), ProblemKind::ProofRequired);
    let seckill_client::ChallengeView { algorithm, challenge, maxnumber, salt, signature } =
        buyer.challenge(sale).await.unwrap();
    let solution =
        solve(&Challenge { algorithm, challenge, maxnumber, salt, signature }).unwrap().to_payload();
    let ticket = buyer.ticket(sale, Some(&solution)).await.unwrap();
    assert_eq!(kind(buyer.order(sale, &OrderRequest::default(), None).await), ProblemKind::TicketRequired);
    assert_eq!(
        kind(buyer.order(sale, &OrderRequest::default(), Some("nonsense")).await),
        ProblemKind::TicketInvalid
    );
    buyer.order(sale, &OrderRequest::default(), Some(&ticket.ticket)).await.unwrap();
}

#[tokio::test]
async fn a_sale_whose_answer_is_lost_is_created_once() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (_, admin) = clients(&gateway);
    bed.faults.next(Call::WriteSale, [Mishap::AnswerLost]);
    let mut again = Vec::new();
    let made = admin.create_sale(&new_sale(), "key", |why| again.push(why.clone())).await.unwrap();
    assert_eq!(again.iter().map(Error::kind).collect::<Vec<_>>(), [Some(&ProblemKind::SaleUnknown)]);
    assert!(again[0].may_have_happened() && made.replayed);
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_error_says_whether_something_may_have_happened() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    let client = Client::new(format!("http://{address}").parse().unwrap()).unwrap();
    let buyer = client.clone().with_timeout(Duration::from_millis(200)).buyer(token(7).into());
    // Somebody listens, and never answers.
    let lost = buyer.order(SaleId(1), &OrderRequest::default(), None).await.unwrap_err();
    assert!(matches!(lost, Error::AnswerLost { .. }) && lost.may_have_happened(), "{lost:?}");
    assert!(matches!(buyer.order_events(OrderId::generate()).await, Err(Error::AnswerLost { .. })));
    drop(free);
    let nobody = client.sales().await.unwrap_err();
    assert!(matches!(nobody, Error::NoConnection { .. }) && !nobody.may_have_happened(), "{nobody:?}");
    assert!(nobody.to_string().contains(&address.to_string()), "{nobody}");
    let unsendable = client.buyer("two\nlines".into()).orders(SaleId(1)).await.unwrap_err();
    assert!(
        matches!(unsendable, Error::Unsendable { .. }) && !unsendable.may_have_happened(),
        "{unsendable:?}"
    );
    for server in ["ftp://127.0.0.1", "http://user:hunter2@127.0.0.1", "http://127.0.0.1/?a=b"] {
        let error = Client::new(server.parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Server { .. }) && !error.to_string().contains("hunter2"), "{error}");
    }
    let secret = format!("{:?} {unsendable:?}", client.buyer("a-secret-token".into()));
    assert!(!secret.contains("a-secret-token") && !secret.contains("lines"), "{secret}");
}

#[tokio::test]
async fn what_is_no_gateway_is_told_from_a_refusal() {
    let answers = axum::Router::new()
        .route("/api/v1/sales", axum::routing::get(async || "<html>"))
        .route("/base/api/v1/sales", axum::routing::get(async || axum::Json(json!({"sales": [], "new": 1}))))
        .fallback(async || (axum::http::StatusCode::BAD_GATEWAY, "away"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, answers).await });
    let client = Client::new(server.parse().unwrap()).unwrap();
    let unreadable = client.sales().await.unwrap_err();
    assert!(matches!(unreadable, Error::Unreadable { status: 200, .. }), "{unreadable:?}");
    let away = client.sale(SaleId(1)).await.unwrap_err();
    assert_eq!((away.status(), away.kind()), (Some(502), None), "{away:?}");
    // Under a path of a proxy, and with a field that this version does not know.
    let client = Client::new(format!("{server}/base/").parse().unwrap()).unwrap();
    assert_eq!(client.sales().await.unwrap().sales, []);
}
