//! A headless Chromium of one's own: started for one test, gone with it. Knows nothing of what it shows.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

mod axe;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long anything in the browser may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Headless, and quiet: a browser that asks for updates would fail the test for requests.
const FLAGS: [&str; 9] = [
    "--headless",
    "--window-size=1280,1400",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Browsers at a time: more of them on one machine starve each other until waits run out.
static SEATS: Semaphore = Semaphore::const_new(2);

pub struct Browser {
    client: Client,
    // Dropped after the client, and before the folder that the browser writes to.
    _driver: Driver,
    folder: tempfile::TempDir,
    _seat: SemaphorePermit<'static>,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no Chromium with its driver on the PATH; says how to install them.
    pub async fn start() -> Self {
        let seat = SEATS.acquire().await.expect("the semaphore is never closed");
        let browser = program(&["chromium", "chromium-browser", "google-chrome"]);
        let folder = tempfile::tempdir().unwrap();
        let mut args: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        args.push(format!("--user-data-dir={}", folder.path().join("profile").display()));
        let wanted = json!({
            "goog:chromeOptions": { "binary": browser, "args": args },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let driver = Driver::start();
        let Value::Object(wanted) = wanted else { unreachable!("an object, as written above") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .expect("chromedriver can start a browser; both must be of the same version");
        // The browser's own first page asks for its own parts; these are none of the page's.
        client.goto("about:blank").await.unwrap();
        let browser = Self { client, _driver: driver, folder, _seat: seat };
        browser.requests().await;
        browser.console().await;
        browser
    }

    /// Opens a page from a file, as somebody would to whom it was sent; answers the file's address.
    pub async fn open(&self, html: &str) -> String {
        let file = self.folder.path().join("page.html");
        std::fs::write(&file, html).unwrap();
        let address = format!("file://{}", file.display());
        self.goto(&address).await;
        address
    }

    pub async fn goto(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    /// Presses keys, wherever the focus is, as WebDriver names them: `\u{e004}` is Tab.
    pub async fn press(&self, keys: &str) {
        self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
    }

    /// What an expression evaluates to in the page.
    pub async fn get(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.unwrap()
    }

    /// Waits until an expression is true in the page.
    pub async fn wait_for(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.get(&format!("Boolean({expression})")).await != json!(true) {
            assert!(
                Instant::now() < deadline,
                "not true in {PATIENCE:?}: {expression}\n{:?}",
                self.console().await
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A window of this many pixels, as a phone's is.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// A picture of the window, as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        self.client.screenshot().await.unwrap()
    }

    /// Makes the system's look `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Runs a script in every page from now on, before the page's own.
    pub async fn run_first(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    /// What the console has said since it was last asked for.
    pub async fn console(&self) -> Vec<Value> {
        self.log("browser").await
    }

    /// Every address that was asked for since this was last called; what a `data:` address asks for, it holds itself.
    pub async fn requests(&self) -> Vec<String> {
        let text_of = |entry: &Value| serde_json::from_str::<Value>(entry["message"].as_str()?).ok();
        let messages: Vec<Value> = self.log("performance").await.iter().filter_map(text_of).collect();
        let sent = messages.iter().map(|message| &message["message"]);
        let sent = sent.filter(|message| message["method"] == "Network.requestWillBeSent");
        let addresses = sent.map(|message| message["params"]["request"]["url"].as_str().unwrap().to_owned());
        addresses.filter(|address| !address.starts_with("data:")).collect()
    }

    async fn log(&self, kind: &'static str) -> Vec<Value> {
        let entries =
            self.client.issue_cmd(Post { path: "se/log", body: json!({ "type": kind }) }).await.unwrap();
        entries.as_array().unwrap().clone()
    }

    async fn devtools(&self, command: &str, params: Value) {
        let body = json!({ "cmd": command, "params": params });
        self.client.issue_cmd(Post { path: "goog/cdp/execute", body }).await.unwrap();
    }
}

/// A command that the WebDriver standard does not have.
#[derive(Debug)]
struct Post {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Post {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (hyper::Method, Option<String>) {
        (hyper::Method::POST, Some(self.body.to_string()))
    }
}

/// A chromedriver. Dropped, it ends with all its browsers, also when the test has failed.
struct Driver {
    process: Child,
    port: u16,
}

impl Driver {
    fn start() -> Self {
        let program = program(&["chromedriver"]);
        let mut process = Command::new(program)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.by_ref().find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // Whatever else it says must go somewhere, or it would wait for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, port: port.expect("chromedriver says which port it listens on") }
    }

    fn ask_to_end(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.ask_to_end().is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// The first of these programs that is on the PATH.
fn program(names: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let files = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    files.into_iter().find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "no {} on the PATH, and pages are tested in a real browser; run scripts/setup.sh, or install it \
             by hand (Debian and Ubuntu: apt-get install chromium chromium-driver)",
            names[0]
        )
    })
}
