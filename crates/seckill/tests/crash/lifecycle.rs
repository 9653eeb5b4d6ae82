//! What comes after the order under load, while whoever does the work is killed every few seconds: workers with their relay and
//! their subscribers, a subscriber outside, and on the embedded back end the one process that does all of it. The bank loses one
//! answer in ten after the effect and sends its webhooks twice. The load test gives the verdict, in stock and in money.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use loadtest::check::bank::Bank;
use loadtest::check::shop::bearer;
use loadtest::{
    BehaviourReport, Clients, LifecycleFlags, Plan, Played, SaleReport, Session, Target, Tokens, Verdict,
};
use seckill_testkit::eventually;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::after::open_sale;
use crate::bed::{Bed, GATEWAY, HEALED, say, turn};
use crate::chaos::number;
use crate::process::{ADMIN_TOKEN, Role, seckill, token};

/// How often somebody is killed.
const EVERY: Duration = Duration::from_secs(5);
/// An order whose payment is not answered is settled well within it.
const WINDOW: Duration = Duration::from_secs(40);
const PRICE: u64 = 1_999;
/// Orders in a run of all tests; `scripts/lifecycle.sh` has more.
const ORDERS: u64 = 600;
/// Orders a second.
const RATE: u64 = 200;
const SECRET: &str = "a secret between bank and shop";
const NAME: &str = "crm";

fn orders() -> u64 {
    number("SECKILL_LIFECYCLE_ORDERS").unwrap_or(ORDERS)
}

/// An address that nobody listens on; whoever is killed comes back on it.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A bank that fails, and reports to the gateway that listens on `gateway`.
async fn failing_bank(gateway: &str) -> Role {
    let webhook = format!("http://{gateway}/api/v1/bank/news");
    let args =
        ["--timeout-after", "0.1", "--webhooks-doubled", "--webhooks-reordered", "--webhook", &webhook];
    Role::start("bank", &args, &[("SECKILL_WEBHOOK_SECRET", SECRET)]).await
}

/// A subscriber that appends what it gets to a file, and is started again after each kill.
struct Subscriber {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    child: Child,
}

impl Subscriber {
    fn start(environment: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(folder.path(), &environment);
        Self { folder, environment, child }
    }

    fn spawn(folder: &Path, environment: &[(&'static str, String)]) -> Child {
        let file = File::options().create(true).append(true).open(folder.join("events")).unwrap();
        let mut command = seckill();
        command.args(["subscribe", "--name", NAME, "--on", "order.*,refund.*"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdout(file).stderr(Stdio::null()).spawn().unwrap()
    }

    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
        self.child = Self::spawn(self.folder.path(), &self.environment);
    }

    /// The orders that events of this type are about; one event may tell of several. A line that a kill has cut off comes again.
    fn orders_of(&self, kind: &str) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.folder.path().join("events")).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let data = events.filter(|event| event["type"] == kind).map(|event| event["data"].clone());
        let orders = data.flat_map(|data| match data["orders"].as_array() {
            Some(orders) => orders.clone(),
            None => vec![data],
        });
        orders.map(|order| order["order_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Sends the buyers to `sale`, and follows their orders to the end.
async fn play(gateway: String, bank: String, sale: u64) -> Played {
    let buyers = orders();
    let plan = Plan::spread(buyers, 1, Duration::from_millis(buyers * 1_000 / RATE));
    let flags =
        LifecycleFlags { payment_window: Some(WINDOW), price: Some(PRICE), ..LifecycleFlags::default() };
    let tokens = Tokens::sign(&plan, token).unwrap();
    let target = Target::parse(&format!("http://{gateway}")).unwrap();
    let clients = Clients::connect(target, 64).await.unwrap();
    let sale_report = SaleReport { id: sale, stock: Some(buyers), created: true };
    let mut session = Session {
        admin: Some(bearer(ADMIN_TOKEN).unwrap()),
        lifecycle: flags.plan(sale).unwrap(),
        bank: Some(Bank::open(Target::parse(&bank).unwrap()).await.unwrap()),
        drain_stall: Duration::from_secs(60),
        ..Session::new(plan, clients, tokens, sale_report)
    };
    session.play_in_detail().await.unwrap()
}

/// Calls `kill` every few seconds until `playing` has ended, and checks its verdict, and that `subscriber` has every event.
async fn kill_until_the_end(
    playing: JoinHandle<Played>,
    subscriber: &mut Subscriber,
    mut kill: impl AsyncFnMut(usize),
) {
    let (mut due, mut times) = (Instant::now(), 0);
    while !playing.is_finished() {
        due += EVERY;
        sleep_until(due).await;
        kill(times).await;
        subscriber.kill().await;
        times += 1;
    }
    let report = playing.await.unwrap().report;
    say(&format!("{report}\n{} processes killed", 2 * times));
    assert_eq!(report.verdict, Verdict::Pass, "{report}");
    let life = report.lifecycle.unwrap();
    let effects = life.effects.expect("the effects of the refund events were checked");
    let subscribers: BTreeSet<&str> = effects.iter().map(|check| check.subscriber.as_str()).collect();
    assert_eq!(subscribers, BTreeSet::from(["funnel", "loyalty", "notifications", "restock"]));
    for check in effects {
        assert_eq!(check.actual, check.expected, "{}: {}", check.subscriber, check.event);
        if check.event == "refund.succeeded" {
            assert!(check.expected > 0, "{}: nothing was refunded", check.subscriber);
        }
    }
    let ended = |count: fn(&BehaviourReport) -> u64| life.behaviours.iter().map(count).sum::<u64>();
    let expected = [
        ("order.cancelled", ended(|some| some.cancelled)),
        ("refund.succeeded", ended(|some| some.refunded)),
    ];
    for (kind, orders) in expected {
        assert!(orders > 0, "{kind}");
        eventually(HEALED, async || match subscriber.orders_of(kind).len() as u64 {
            found if found >= orders => Ok(()),
            found => Err(format!("{found} of {orders} {kind}")),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_while_workers_and_subscribers_die() {
    let _turn = turn("lifecycle_while_workers_and_subscribers_die").await;
    let bed = Bed::start().await;
    let address = free_address();
    let bank = failing_bank(&address).await;
    let bank_url = bank.url();
    let with_bank = ["--bank-url", bank_url.as_str()];
    let args = [GATEWAY, &with_bank, &["--listen", &address, "--bank-secret", SECRET]].concat();
    let gateway = bed.urls.gateway(&args).await;
    let mut workers = [bed.urls.worker(&with_bank).await, bed.urls.worker(&with_bank).await];
    let environment = bed.urls.environment().into_iter().map(|(name, value)| (name, value.to_owned()));
    let mut subscriber = Subscriber::start(environment.collect());
    let sale = open_sale(&gateway, orders(), PRICE, WINDOW).await;
    let playing = tokio::spawn(play(address, bank.url(), sale));
    kill_until_the_end(playing, &mut subscriber, async |time| {
        let victim = &mut workers[time % 2];
        victim.kill().await;
        *victim = bed.urls.worker(&with_bank).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_while_the_one_process_dies() {
    let _turn = turn("lifecycle_while_the_one_process_dies").await;
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let data = folder.path().to_str().unwrap();
    let bank = failing_bank(&address).await;
    let bank_url = bank.url();
    let args = ["--data-dir", data, "--listen", &address, "--bank-url", &bank_url, "--bank-secret", SECRET];
    let args = [GATEWAY, &args].concat();
    let mut gateway = Role::start("gateway", &args, &[]).await;
    let mut subscriber = Subscriber::start(vec![("SECKILL_DATA_DIR", data.to_owned())]);
    let sale = open_sale(&gateway, orders(), PRICE, WINDOW).await;
    let playing = tokio::spawn(play(address.clone(), bank.url(), sale));
    kill_until_the_end(playing, &mut subscriber, async |_| {
        gateway.kill().await;
        gateway = Role::start("gateway", &args, &[]).await;
    })
    .await;
}
