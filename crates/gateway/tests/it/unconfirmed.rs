//! Outcomes that nobody can tell at first: of a publish, and of a reserve. None of them loses an order, sells it twice or
//! calls it accepted before the queue has confirmed it.

use seckill_testkit::faults::{Call, Mishap};

use crate::gateway::{Gateway, config, one_lane, quick_recoverer};
use crate::stage::Stage;

#[tokio::test]
async fn an_order_whose_confirm_was_lost_can_be_polled_and_a_retry_gets_it() {
    let stage = Stage::new().await;
    let gateway = Gateway::start(&stage.backend).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.next(Call::Publish, [Mishap::AnswerLost]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "queued");
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    assert_eq!(stage.faults.events(Call::Publish).len(), 2, "the retry waits for a confirm of its own");
    assert_eq!(stage.level(sale).await.remaining, 9);
    stage.expect_at_rest(sale, 1).await;
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "committed");
    gateway.stop().await;
}

#[tokio::test]
async fn an_order_that_never_reached_the_queue_is_published_by_the_retry() {
    let stage = Stage::new().await;
    let gateway = Gateway::start(&stage.backend).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.next(Call::Publish, [Mishap::NeverArrived, Mishap::NeverArrived]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    let again = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown");
    assert_eq!(
        (again.order_id(), stage.queued().await),
        (id, 0),
        "nothing is called accepted without a confirm"
    );
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    stage.expect_at_rest(sale, 1).await;
    assert!(stage.ledger_order(id).await.is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn an_order_that_never_reached_the_queue_is_published_by_the_recoverer() {
    let stage = Stage::new().await;
    let gateway = Gateway::with(&stage.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.next(Call::Publish, [Mishap::NeverArrived]);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    stage.settled(sale).await;
    stage.expect_at_rest(sale, 1).await;
    assert!(stage.ledger_order(id).await.is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn the_recoverer_goes_on_through_faults_of_gate_and_queue() {
    let stage = Stage::new().await;
    let gateway = Gateway::with(&stage.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    // The first publish is the lane's, the others are the recoverer's.
    stage.faults.next(Call::Publish, [Mishap::NeverArrived, Mishap::AnswerLost, Mishap::Away]);
    stage.faults.next(Call::Stranded, [Mishap::Away, Mishap::NeverArrived]);
    gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown");
    stage.faults.next(Call::Settle, [Mishap::Away]);
    stage.settled(sale).await;
    stage.expect_at_rest(sale, 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_publisher_that_failed_is_not_used_again() {
    let stage = Stage::new().await;
    let gateway = Gateway::with(&stage.backend, one_lane()).await;
    let sale = gateway.open_sale(10).await;
    gateway.buy(sale, 1).await.expect(202);
    gateway.buy(sale, 2).await.expect(202);
    assert_eq!(stage.faults.asked(Call::Publisher), 1, "a publisher that works is kept");
    stage.faults.next(Call::Publish, [Mishap::AnswerLost]);
    gateway.buy(sale, 3).await.expect_problem(503, "outcome-unknown");
    gateway.buy(sale, 4).await.expect(202);
    assert_eq!(stage.faults.asked(Call::Publisher), 2);
    stage.expect_at_rest(sale, 4).await;
}

#[tokio::test]
async fn a_reserve_that_did_not_say_how_it_ended_is_repeated_and_deducts_once() {
    for mishap in [Mishap::AnswerLost, Mishap::NeverArrived] {
        let stage = Stage::new().await;
        let gateway = Gateway::with(&stage.backend, quick_recoverer()).await;
        let sale = gateway.open_sale(10).await;
        stage.faults.next(Call::Reserve, [mishap]);
        let id = gateway.buy(sale, 7).await.expect(202).order_id();
        let level = stage.level(sale).await;
        assert_eq!((level.remaining, level.orders, stage.faults.asked(Call::Reserve)), (9, 1, 2));
        // The entry of the first call is nobody's but the recoverer's.
        stage.settled(sale).await;
        stage.expect_at_rest(sale, 1).await;
        assert!(stage.ledger_order(id).await.is_some());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_reserve_that_never_says_how_it_ends_is_an_unknown_outcome_and_is_recovered() {
    let stage = Stage::new().await;
    let gateway = Gateway::with(&stage.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.always(Call::Reserve, Mishap::AnswerLost);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    stage.faults.heal(Call::Reserve);
    assert_eq!(stage.level(sale).await.remaining, 9);
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "queued");
    stage.settled(sale).await;
    stage.expect_at_rest(sale, 1).await;
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_repeat_does_not_undo_a_reserve_that_may_have_happened() {
    let stage = Stage::new().await;
    let gateway = Gateway::with(&stage.backend, config()).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.next(Call::Reserve, [Mishap::AnswerLost]);
    stage.faults.always(Call::Reserve, Mishap::Away);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    stage.faults.heal(Call::Reserve);
    assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), id);
    stage.expect_at_rest(sale, 1).await;
}

#[tokio::test]
async fn a_gate_that_is_away_costs_nobody_a_unit() {
    let stage = Stage::new().await;
    let gateway = Gateway::start(&stage.backend).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.always(Call::Reserve, Mishap::Away);
    let refused = gateway.buy(sale, 7).await.expect_problem(503, "unavailable");
    assert_eq!(
        stage.faults.asked(Call::Reserve),
        1,
        "what has surely not happened is left to the buyer's retry"
    );
    assert!(refused.json["detail"].as_str().unwrap().contains("the gate is unavailable"), "{refused:?}");
    stage.faults.heal(Call::Reserve);
    assert_eq!(stage.level(sale).await.orders, 0);
    gateway.buy(sale, 7).await.expect(202);
}

#[tokio::test]
async fn a_confirmed_order_that_could_not_be_settled_is_settled_later() {
    let stage = Stage::new().await;
    let gateway = Gateway::with(&stage.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(10).await;
    stage.faults.next(Call::Settle, [Mishap::Away]);
    gateway.buy(sale, 7).await.expect(202);
    stage.settled(sale).await;
    stage.expect_at_rest(sale, 1).await;
    gateway.stop().await;
}
