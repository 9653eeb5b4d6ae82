//! What a crowd may cost: by token, by address, and over all.

use std::collections::HashSet;

use futures_util::future::join_all;
use reqwest::Method;
use seckill_gateway::Config;
use seckill_gateway::http::guard::CrowdConfig;
use seckill_gateway::peer::{ForwardedHeader, TrustedProxies};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};

use crate::gateway::{Gateway, config, no_crowd_limits, send, token};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

fn crowd(crowd: CrowdConfig) -> Config {
    Config { crowd, ..config() }
}

/// Asks as many times as it takes to be refused.
async fn until_refused(ask: impl AsyncFn() -> Reply) -> Reply {
    for _ in 0..1_000 {
        let reply = ask().await;
        if reply.status == 429 {
            return reply.expect_problem(429, "rate-limited");
        }
    }
    panic!("a thousand requests were not too many");
}

#[tokio::test]
async fn whoever_asks_for_what_there_is_not_is_refused_before_the_ledger_is_asked() {
    let bed = TestBed::new().await;
    let gateway =
        Gateway::with(&bed.backend, crowd(CrowdConfig { miss_rate_limit: 1, ..no_crowd_limits() })).await;
    let sale = gateway.open_sale(10).await;
    let asked = bed.faults.asked(Call::ReadLedger);
    let mut refused = 0;
    // However the number is written.
    for id in 1_000..1_050 {
        for path in [format!("/api/v1/sales/{id}"), format!("/api/v1/sales/%31{id}")] {
            refused += usize::from(gateway.get(&path).await.status == 429);
        }
    }
    let asked = bed.faults.asked(Call::ReadLedger) - asked;
    // The directory's own refresh is among them.
    assert!(
        refused > 50 && asked < 50,
        "{refused} of 100 were refused, and the ledger was asked {asked} times"
    );
    // So are paths, orders and bad tokens.
    until_refused(async || gateway.get("/wp-login.php").await).await;
    until_refused(async || gateway.get_as(7, &format!("/api/v1/orders/{}", uuid())).await).await;
    until_refused(async || send(gateway.request(Method::GET, "/api/v1/orders/1").bearer_auth("bad")).await)
        .await;
    // What there is, is there for that address, too.
    gateway.get(&format!("/api/v1/sales/{sale}")).await.expect(200);
    gateway.buy(sale, 7).await.expect(202);
    gateway.stop().await;
}

fn uuid() -> String {
    "01890a5d-ac96-774b-bcce-b302099a8057".to_owned()
}

#[tokio::test]
async fn what_needs_no_token_is_limited_by_address_also_with_one() {
    let bed = TestBed::new().await;
    let limits = CrowdConfig { anonymous_rate_limit: 1, ..no_crowd_limits() };
    let gateway = Gateway::with(&bed.backend, crowd(limits)).await;
    let sale = gateway.open_sale(10).await;
    let path = format!("/api/v1/sales/{sale}");
    let refused = until_refused(async || gateway.get(&path).await).await;
    assert_eq!(refused.header("ratelimit-policy"), Some("\"anonymous\";q=2;w=2"));
    until_refused(async || send(gateway.request(Method::GET, &path).bearer_auth("made up")).await).await;
    for user in 0..10 {
        gateway.buy(sale, user).await.expect(202);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_address_is_what_trusted_proxies_say_and_nobody_elses_word() {
    let bed = TestBed::new().await;
    let limits = |proxies: TrustedProxies| {
        crowd(CrowdConfig { anonymous_rate_limit: 1, proxies, ..no_crowd_limits() })
    };
    let trusted = TrustedProxies::new(["127.0.0.0/8".parse().unwrap()], ForwardedHeader::XForwardedFor);
    let behind = Gateway::with(&bed.backend, limits(trusted)).await;
    let direct = Gateway::with(&bed.backend, limits(TrustedProxies::default())).await;
    let as_client = |gateway: &Gateway, client: String| {
        send(gateway.request(Method::GET, "/api/v1/sales").header("X-Forwarded-For", client))
    };
    for nth in 0..20 {
        as_client(&behind, format!("192.0.2.{nth}")).await.expect(200);
    }
    // Made up by the client, before the address that the proxy has seen.
    let mut nth = 0..1_000;
    let mut spoof = |gateway: &Gateway, seen: &str| {
        let made_up = nth.next().expect("fewer are needed");
        as_client(gateway, format!("198.51.100.{made_up}{seen}"))
    };
    let mut refused = [false, false];
    for _ in 0..20 {
        refused[0] |= spoof(&behind, ", 203.0.113.9").await.status == 429;
        refused[1] |= spoof(&direct, "").await.status == 429;
    }
    assert_eq!(refused, [true, true]);
    behind.stop().await;
    direct.stop().await;
}

#[tokio::test]
async fn one_token_cannot_take_all_of_the_work_under_way() {
    let bed = TestBed::new().await;
    let limits = CrowdConfig { requests_per_token: 1, orders_under_way: 2, ..no_crowd_limits() };
    let mut config = crowd(limits);
    // Enough for the two users of this test to have one each.
    config.intake.lanes = 64;
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(100).await;
    bed.faults.always(Call::Publish, Mishap::Held);
    let bot: Vec<_> = (0..20).map(|_| tokio::spawn(send(gateway.buying(sale, 7)))).collect();
    bed.reserved(sale, 1).await;
    eventually(SOON, async || match bot.iter().filter(|order| order.is_finished()).count() {
        19 => Ok(()),
        finished => Err(finished),
    })
    .await;
    // A place is left to somebody else, and then there is none.
    let honest = tokio::spawn(send(gateway.buying(sale, 8)));
    bed.reserved(sale, 2).await;
    let late = gateway.buy(sale, 9).await.expect_problem(503, "overloaded");
    assert!((1..=10).contains(&late.retry_after()), "{late:?}");
    // Reading goes on.
    gateway.get(&format!("/api/v1/sales/{sale}")).await.expect(200);
    bed.faults.heal(Call::Publish);
    let bot: Vec<_> = join_all(bot).await.into_iter().map(|reply| reply.expect("no panic").status).collect();
    assert_eq!(bot.iter().filter(|status| **status == 429).count(), 19, "{bot:?}");
    honest.await.expect("no panic").expect(202);
    gateway.buy(sale, 9).await.expect(202);
    bed.expect_at_rest(sale, 3).await;
    gateway.stop().await;
}

#[tokio::test]
async fn one_token_has_a_few_event_streams_and_gets_their_places_back() {
    let bed = TestBed::new().await;
    let gateway =
        Gateway::with(&bed.backend, crowd(CrowdConfig { streams_per_token: 2, ..no_crowd_limits() })).await;
    let sale = gateway.open_sale(10).await;
    let stream = |user, order| {
        gateway
            .request(Method::GET, &format!("/api/v1/orders/{order}/events"))
            .bearer_auth(token(user))
            .send()
    };
    let order = gateway.buy(sale, 7).await.expect(202).order_id();
    let other = gateway.buy(sale, 8).await.expect(202).order_id();
    let (first, second) = (stream(7, order).await.unwrap(), stream(7, order).await.unwrap());
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    Reply::read(stream(7, order).await.unwrap()).await.unwrap().expect_problem(429, "rate-limited");
    // Spelled in another way it is the same token.
    let spelled = gateway
        .request(Method::GET, &format!("/api/v1/orders/{order}/events"))
        .header("Authorization", format!("bEARER   {}", token(7)));
    send(spelled).await.expect_problem(429, "rate-limited");
    assert_eq!(stream(8, other).await.unwrap().status(), 200);
    drop(first);
    eventually(SOON, async || match stream(7, order).await.unwrap().status().as_u16() {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
    drop(second);
    gateway.stop().await;
}

#[tokio::test]
async fn a_bot_is_refused_and_honest_buyers_are_served() {
    const HONEST: u64 = 200;
    let bed = TestBed::new().await;
    let limits = Config { order_rate_limit: 5, crowd: CrowdConfig::default(), ..config() };
    let gateway = Gateway::with(&bed.backend, limits).await;
    let sale = gateway.open_sale(1_000).await;
    let bots = async {
        let mut statuses = Vec::new();
        for _ in 0..40 {
            let burst = join_all((0..25).map(|nth| gateway.buy(sale, 1 + nth % 2))).await;
            statuses.extend(burst.iter().map(|reply| reply.status));
        }
        statuses
    };
    let honest = async {
        let mut served = 0;
        for user in 0..HONEST {
            served += u64::from(gateway.buy(sale, 100 + user).await.status == 202);
        }
        served
    };
    let (statuses, served) = tokio::join!(bots, honest);
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(served * 100 >= HONEST * 99, "{served} of {HONEST} honest buyers were served");
    assert!(refused * 10 >= statuses.len() * 5, "{refused} of {} were refused", statuses.len());
    gateway.stop().await;
}

#[tokio::test]
async fn limited_answers_say_where_the_user_stands() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, Config { order_rate_limit: 2, ..config() }).await;
    let sale = gateway.open_sale(10).await;
    let first = gateway.buy(sale, 7).await.expect(202);
    assert_eq!(first.header("ratelimit-policy"), Some("\"orders\";q=4;w=2"));
    assert_eq!(first.header("ratelimit"), Some("\"orders\";r=3;t=1"));
    let refused = until_refused(async || gateway.buy(sale, 7).await).await;
    assert_eq!(refused.header("ratelimit"), Some("\"orders\";r=0;t=2"));
    assert_eq!(gateway.get(&format!("/api/v1/sales/{sale}")).await.expect(200).header("ratelimit"), None);
    gateway.stop().await;
}

#[tokio::test]
async fn a_crowd_that_is_refused_together_does_not_come_back_together() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Reserve, Mishap::Away);
    let mut waits = HashSet::new();
    for user in 0..60 {
        waits.insert(gateway.buy(sale, user).await.expect_problem(503, "unavailable").retry_after());
    }
    assert!(waits.len() > 1 && waits.iter().all(|seconds| (1..=10).contains(seconds)), "{waits:?}");
    gateway.stop().await;
}
