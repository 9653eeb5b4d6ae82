//! The load generator's scenarios that play a crowd, against a gateway with its limits.

use std::time::Duration;

use loadtest::bots::{self, BotsPlan};
use loadtest::polling::{self, PollingPlan};
use loadtest::{Clients, Target, Tokens, bearer};
use seckill_gateway::Config;

use crate::gateway::{ADMIN_TOKEN, Gateway, config, token};
use crate::test_bed::TestBed;

async fn clients(gateway: &Gateway) -> Clients {
    let target = Target::parse(&format!("http://{}", gateway.address)).expect("an address");
    Clients::connect(target, 1).await.expect("the gateway is there")
}

fn tokens(buyers: u64) -> Tokens {
    Tokens::from_list((1..=buyers).map(token)).expect("tokens are plain")
}

#[tokio::test]
async fn bots_are_refused_and_the_honest_are_served() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, Config { order_rate_limit: 10, ..config() }).await;
    let plan = BotsPlan { honest: 60, bots: 2, bot_rate: 400, lasts: Duration::from_secs(3) };
    let admin = bearer(ADMIN_TOKEN).expect("a header");
    let report = bots::play(&clients(&gateway).await, &admin, &tokens(62), plan).await.expect("it is played");
    assert_eq!(report.served, 60, "{report}");
    // Of what a bot sends in three seconds 50 requests are within its limit. How many it can send is the machine's business.
    let within = report.bot_requests - report.bot_answers.get(&429).copied().unwrap_or_default();
    assert!(within <= 2 * 60 && report.bot_orders == 2, "{report}");
}

#[tokio::test]
async fn a_crowd_that_polls_is_answered_without_the_ledger() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (clients, tokens) = (clients(&gateway).await, tokens(8));
    let admin = bearer(ADMIN_TOKEN).expect("a header");
    for streams in [0, 32] {
        let plan = PollingPlan { buyers: 8, streams, lasts: Duration::from_secs(1), limit: 500 };
        let drain = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                bed.drain().await;
            }
        };
        let report = tokio::select! {
            report = polling::play(&clients, &admin, &tokens, plan) => report.expect("it is played"),
            () = drain => unreachable!("it never ends"),
        };
        assert!(report.holds(), "{report}");
        assert_eq!(report.answers.is_empty(), streams > 0, "{report}");
    }
}
