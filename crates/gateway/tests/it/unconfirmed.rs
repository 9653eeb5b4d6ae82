//! Outcomes that are unknown at first: of a publish, and of a reserve. None of them loses an order, sells it twice or
//! calls it accepted before the queue has confirmed it.

use seckill_testkit::faults::{Call, Mishap};

use crate::gateway::{Gateway, config, one_lane, quick_recoverer};
use crate::test_bed::TestBed;

#[tokio::test]
async fn an_order_whose_confirm_was_lost_can_be_polled_and_a_retry_gets_it() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::Publish, [Mishap::AnswerLost]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "queued");
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    assert_eq!(bed.faults.events(Call::Publish).len(), 2, "the retry waits for a confirm of its own");
    assert_eq!(bed.level(sale).await.remaining, 9);
    bed.expect_at_rest(sale, 1).await;
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "committed");
    gateway.stop().await;
}

#[tokio::test]
async fn an_order_that_never_reached_the_queue_is_published_by_the_retry() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::Publish, [Mishap::NeverArrived, Mishap::NeverArrived]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    let again = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown");
    assert_eq!(
        (again.order_id(), bed.queued().await),
        (id, 0),
        "nothing is called accepted without a confirm"
    );
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    bed.expect_at_rest(sale, 1).await;
    assert!(bed.ledger_order(id).await.is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn an_order_that_never_reached_the_queue_is_published_by_the_recoverer() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::Publish, [Mishap::NeverArrived]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 1).await;
    assert!(bed.ledger_order(id).await.is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn a_lane_that_panics_is_started_anew_and_its_orders_are_recovered() {
    let bed = TestBed::new().await;
    let mut config = quick_recoverer();
    config.intake.lanes = 1;
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::Publish, [Mishap::Panic]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    gateway.buy(sale, 8).await.expect(202);
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 2).await;
    assert!(bed.ledger_order(id).await.is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn the_recoverer_goes_on_through_faults_of_gate_and_queue() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    // The first publish is the lane's, the others are the recoverer's.
    bed.faults.next(Call::Publish, [Mishap::NeverArrived, Mishap::AnswerLost, Mishap::Away]);
    bed.faults.next(Call::Stranded, [Mishap::Away, Mishap::NeverArrived]);
    gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown");
    bed.faults.next(Call::Settle, [Mishap::Away]);
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_publisher_that_failed_is_not_used_again() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, one_lane()).await;
    let sale = gateway.open_sale(10).await;
    gateway.buy(sale, 1).await.expect(202);
    gateway.buy(sale, 2).await.expect(202);
    assert_eq!(bed.faults.asked(Call::Publisher), 1, "a publisher that works is kept");
    bed.faults.next(Call::Publish, [Mishap::AnswerLost]);
    gateway.buy(sale, 3).await.expect_problem(503, "outcome-unknown");
    gateway.buy(sale, 4).await.expect(202);
    assert_eq!(bed.faults.asked(Call::Publisher), 2);
    bed.expect_at_rest(sale, 4).await;
}

#[tokio::test]
async fn a_reserve_that_did_not_say_how_it_ended_is_repeated_and_deducts_once() {
    for mishap in [Mishap::AnswerLost, Mishap::NeverArrived] {
        let bed = TestBed::new().await;
        let gateway = Gateway::with(&bed.backend, quick_recoverer()).await;
        let sale = gateway.open_sale(10).await;
        bed.faults.next(Call::Reserve, [mishap]);
        let id = gateway.buy(sale, 7).await.expect(202).order_id();
        let level = bed.level(sale).await;
        assert_eq!((level.remaining, level.orders, bed.faults.asked(Call::Reserve)), (9, 1, 2));
        // The entry of the first call is nobody's but the recoverer's.
        bed.settled(sale).await;
        bed.expect_at_rest(sale, 1).await;
        assert!(bed.ledger_order(id).await.is_some());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_reserve_that_never_says_how_it_ends_is_an_unknown_outcome_and_is_recovered() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Reserve, Mishap::AnswerLost);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    bed.faults.heal(Call::Reserve);
    assert_eq!(bed.level(sale).await.remaining, 9);
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "queued");
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 1).await;
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_repeat_does_not_undo_a_reserve_that_may_have_happened() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, config()).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::Reserve, [Mishap::AnswerLost]);
    bed.faults.always(Call::Reserve, Mishap::Away);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    bed.faults.heal(Call::Reserve);
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    bed.expect_at_rest(sale, 1).await;
}

#[tokio::test]
async fn a_gate_that_is_away_costs_nobody_a_unit() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Reserve, Mishap::Away);
    let refused = gateway.buy(sale, 7).await.expect_problem(503, "unavailable");
    assert_eq!(
        bed.faults.asked(Call::Reserve),
        1,
        "what has surely not happened is left to the buyer's retry"
    );
    assert!(
        refused.json["detail"].as_str().unwrap().contains("the gate, which keeps the stock"),
        "{refused:?}"
    );
    bed.faults.heal(Call::Reserve);
    assert_eq!(bed.level(sale).await.orders, 0);
    gateway.buy(sale, 7).await.expect(202);
}

#[tokio::test]
async fn a_confirmed_order_that_could_not_be_settled_is_settled_later() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::Settle, [Mishap::Away]);
    gateway.buy(sale, 7).await.expect(202);
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 1).await;
    gateway.stop().await;
}
