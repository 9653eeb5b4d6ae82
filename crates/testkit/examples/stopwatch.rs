//! Measures what a new user waits for: the time from `seckill demo --open` to the sentence with the numbers being on the screen. The
//! browser is a headless Chromium, started when the demo asks for one, as a user's is that was closed.
//! `cargo run -p seckill-testkit --features browser --example stopwatch -- target/release/seckill`; see `scripts/stopwatch.sh`.

#![expect(clippy::unwrap_used, reason = "without a page there is nothing to measure")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seckill_testkit::Browser;

/// What the demo starts as the user's browser: it writes the address down.
const OPENER: &str =
    "#!/bin/sh\nprintf %s \"$1\" >\"${0%/*}/new\" && mv \"${0%/*}/new\" \"${0%/*}/address\"\n";
const PATIENCE: Duration = Duration::from_secs(60);
const CTRL_C: &[u8] = b"\x03";

/// The moments of a page, in the order in which they come.
const MOMENTS: [(&str, &str); 3] = [
    ("the page is alive", "document.getElementById('connection').dataset.state === 'live'"),
    (
        "the first request is counted",
        "Number(document.querySelector('#stage-buyers .inside').dataset.value) > 0",
    ),
    ("the sentence is on the screen", "document.getElementById('shaved').textContent.includes('shaved off')"),
];

/// The address that the demo has opened.
async fn opened(file: &Path, demo: &mut Child) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(address) = std::fs::read_to_string(file) {
            return address;
        }
        let ended = demo.try_wait().unwrap();
        assert!(ended.is_none(), "the demo has ended, and opened no page; start it by hand to see why");
        assert!(Instant::now() < deadline, "the demo has opened no page within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::main]
async fn main() {
    let Some(program) = std::env::args().nth(1) else {
        eprintln!("usage: stopwatch PROGRAM, like stopwatch target/release/seckill");
        std::process::exit(2);
    };
    let folder = tempfile::tempdir().unwrap();
    // Desktops open addresses with this program.
    let opener = folder.path().join("xdg-open");
    std::fs::write(&opener, OPENER).unwrap();
    std::fs::set_permissions(&opener, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());

    let begin = Instant::now();
    // `script` of util-linux gives it a terminal: without one, a demo waits for nobody.
    let mut demo = Command::new("script")
        .args(["-qec", &format!("'{program}' demo --open --port 0"), "/dev/null"])
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let address = opened(&folder.path().join("address"), &mut demo).await;
    println!("{:5.1} s  the demo has opened the page", begin.elapsed().as_secs_f64());
    let browser = Browser::start().await;
    browser.goto(&address).await;
    for (moment, is_there) in MOMENTS {
        browser.wait_for(is_there).await;
        println!("{:5.1} s  {moment}", begin.elapsed().as_secs_f64());
    }
    println!(
        "{}",
        browser.get("document.getElementById('shaved').textContent").await.as_str().unwrap_or_default()
    );
    demo.stdin.take().unwrap().write_all(CTRL_C).unwrap();
    demo.wait().unwrap();
}
