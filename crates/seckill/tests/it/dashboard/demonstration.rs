//! A demonstration: a gateway with controls, and its workers, in the same process or in their own.

use reqwest::{Method, RequestBuilder};
use seckill_testkit::{TestCluster, eventually};
use serde_json::{Value, json};

use super::contract;
use crate::process::{Role, SOON, Urls};

const DEMO: (&str, &str) = ("SECKILL_DEMO", "1");

/// The back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Embedded,
    Cluster,
}

pub(crate) struct Demonstration {
    pub(crate) gateway: Role,
    /// `None`: nothing is paid by card.
    pub(crate) bank: Option<Role>,
    /// Two workers at 500 orders/s each. None on the embedded back end, whose gateway has a worker at 1,000 orders/s.
    pub(crate) workers: Vec<Role>,
    args: Vec<String>,
    environment: Vec<(&'static str, String)>,
    // Dropped after the processes.
    _folder: tempfile::TempDir,
    pub(crate) cluster: Option<TestCluster>,
}

impl Demonstration {
    pub(crate) async fn new(on: On) -> Self {
        Self::with(on, None).await
    }

    /// With a bank of its own, to pay by card.
    pub(crate) async fn with_bank(on: On) -> Self {
        Self::with(on, Some(Role::start("bank", &[], &[]).await)).await
    }

    async fn with(on: On, bank: Option<Role>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = vec![(DEMO.0, DEMO.1.to_owned())];
        environment.extend(bank.as_ref().map(|bank| ("SECKILL_BANK_URL", bank.url())));
        let (mut args, mut cluster) = (Vec::new(), None);
        if on == On::Embedded {
            let data = folder.path().display().to_string();
            args = ["--data-dir", &data, "--drain-rate", "1000"].map(str::to_owned).to_vec();
        } else {
            let servers = seckill_testkit::cluster().await;
            let urls = Urls::from(&servers);
            urls.migrate().await;
            environment.extend(urls.environment().into_iter().map(|(name, value)| (name, value.to_owned())));
            cluster = Some(servers);
        }
        let gateway = start("gateway", &args, &environment).await;
        let workers = Vec::new();
        let mut made = Self { gateway, bank, workers, args, environment, _folder: folder, cluster };
        if on == On::Cluster {
            made.add_worker().await;
            made.add_worker().await;
        }
        made
    }

    /// One more worker of a cluster.
    pub(crate) async fn add_worker(&mut self) {
        let args = ["--drain-rate", "1000"].map(str::to_owned);
        self.workers.push(start("worker", &args, &self.environment).await);
    }

    /// Kills the gateway alone, and starts it again at the same address.
    pub(crate) async fn restart_gateway(&mut self) {
        self.gateway.kill().await;
        let mut args = self.args.clone();
        args.extend(["--listen".to_owned(), self.gateway.address.to_string()]);
        self.gateway = start("gateway", &args, &self.environment).await;
    }

    /// A call of the controls, as the page makes it.
    pub(crate) fn control(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        let address = format!("{}/api/v1/control{path}", self.gateway.url());
        reqwest::Client::new().request(method, address).json(body)
    }

    /// The answer to such a call: its status and its body.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.control(method.clone(), path, body).send().await.unwrap();
        contract::check(&method, &format!("/api/v1/control{path}"), answer.status().as_u16());
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Sets every worker's drain rate. A low one makes a backlog even on a slow machine.
    pub(crate) async fn drain(&self, rate: impl Into<Value>) {
        let (status, answer) = self.ask(Method::PUT, "/drain-rate", &json!({"rate": rate.into()})).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Waits for a frame that fulfils a condition, and returns it.
    pub(crate) async fn frame(&self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        let mut stream = Stream::open(&self.gateway.url(), None).await;
        let history = stream.next().await.expect("the history comes first");
        let columns: Vec<String> = serde_json::from_value(history.data["columns"].clone()).unwrap();
        let mut last = Value::Null;
        let waited = tokio::time::timeout(2 * SOON, async {
            while let Some(event) = stream.next().await {
                if event.name == "frame" {
                    let frame = Frame { columns: columns.clone(), data: event.data };
                    if wanted(&frame) {
                        return Some(frame);
                    }
                    last = frame.data;
                }
            }
            None
        })
        .await;
        waited.ok().flatten().unwrap_or_else(|| panic!("no such frame; the last one: {last}"))
    }

    /// Waits until the load run has ended, and returns its status.
    pub(crate) async fn load_over(&self) -> Value {
        eventually(2 * SOON, async || {
            let (_, load) = self.ask(Method::GET, "/load", &Value::Null).await;
            if load["ended_at"].is_number() { Ok(load) } else { Err(load) }
        })
        .await
    }
}

async fn start(role: &str, args: &[String], environment: &[(&'static str, String)]) -> Role {
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Role::start(role, &args, &environment).await
}

/// One frame of the feed.
#[derive(Debug)]
pub(crate) struct Frame {
    columns: Vec<String>,
    pub(crate) data: Value,
}

impl Frame {
    /// A number of the row; `None` where it is not known.
    pub(crate) fn number(&self, column: &str) -> Option<f64> {
        let at = self.columns.iter().position(|name| name == column).unwrap();
        self.data["row"][at].as_f64()
    }

    pub(crate) fn processes(&self) -> &Vec<Value> {
        self.data["processes"].as_array().unwrap()
    }

    /// The drain rates that the workers report.
    pub(crate) fn drain_rates(&self) -> Vec<&str> {
        self.processes().iter().filter_map(|process| process["drain_rate"].as_str()).collect()
    }
}

/// One event of the feed.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// The feed, event by event.
pub(crate) struct Stream {
    response: reqwest::Response,
    buffer: String,
}

impl Stream {
    pub(crate) async fn open(gateway: &str, last_event_id: Option<&str>) -> Self {
        let mut request = reqwest::Client::new().get(format!("{gateway}/api/v1/live"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The next event; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                let data = serde_json::from_str(&field("data")).unwrap_or_default();
                let found = Event { name: field("event"), id: field("id"), data };
                self.buffer = rest.to_owned();
                return Some(found);
            }
            let piece = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}
