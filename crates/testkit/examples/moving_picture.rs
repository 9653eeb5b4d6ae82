//! Films the dashboard of a demonstration during a spike, in presentation mode: a picture about five times a second, from the quiet
//! before it to the verdict after it. In the folder are then the pictures and `frames.txt`, which names each with the time for which it
//! is seen, as ffmpeg's concat demuxer reads it.
//! `cargo run -p seckill-testkit --features browser --example moving_picture -- http://127.0.0.1:8080 FOLDER`; see
//! `scripts/screenshots.sh --moving`.

#![expect(clippy::unwrap_used, reason = "without a picture there is nothing to go on with")]

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use seckill_testkit::Browser;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The time from one picture to the next one, where taking one does not take longer.
const PAUSE: Duration = Duration::from_millis(200);
/// How long is filmed before the load begins, and after the verdict.
const BEFORE: Duration = Duration::from_millis(800);
const AFTER: Duration = Duration::from_secs(3);
/// A film that does not end by then is not worth looking at.
const LONGEST: Duration = Duration::from_secs(120);
const VERDICT: &str = "['pass', 'fail'].includes(document.getElementById('verdict').dataset.state) && \
                       !document.getElementById('verdict').hidden";

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(folder)) = (args.next(), args.next().map(PathBuf::from)) else {
        eprintln!("usage: moving_picture ADDRESS FOLDER, like moving_picture http://127.0.0.1:8080 frames");
        std::process::exit(2);
    };
    let browser = Browser::start().await;
    browser.resize(1200, 675).await;
    browser.goto(&address).await;
    browser.wait_for("document.querySelector('#chart-hero .main-svg')").await;
    browser
        .get(
            "['theme', 'load-preset'].forEach((id, at) => { const it = document.getElementById(id); it.value = ['light', 'spike'][at]; \
             it.dispatchEvent(new Event('change', { bubbles: true })); })",
        )
        .await;
    browser.get("document.getElementById('present').click()").await;

    let (begin, mut ends, mut started) = (Instant::now(), None, false);
    let mut taken: Vec<(String, Instant)> = Vec::new();
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while ends.is_none_or(|end| Instant::now() < end) {
        ticks.tick().await;
        let name = format!("{:04}.png", taken.len());
        taken.push((name.clone(), Instant::now()));
        std::fs::write(folder.join(name), browser.picture().await).unwrap();
        if !started && begin.elapsed() > BEFORE {
            browser.get("document.getElementById('load-start').click()").await;
            browser.wait_for("document.getElementById('verdict').hidden").await;
            started = true;
        } else if started && ends.is_none() && browser.get(VERDICT).await == true {
            ends = Some(Instant::now() + AFTER);
        }
        assert!(begin.elapsed() < LONGEST, "no verdict within {LONGEST:?}");
    }
    let mut list = String::from("ffconcat version 1.0\n");
    let ends = taken.iter().skip(1).map(|(_, at)| *at).chain([Instant::now()]);
    for ((name, at), next) in taken.iter().zip(ends) {
        writeln!(list, "file '{name}'\nduration {:.3}", (next - *at).as_secs_f64()).unwrap();
    }
    std::fs::write(folder.join("frames.txt"), list).unwrap();
    println!("{} pictures in {:.1} s", taken.len(), begin.elapsed().as_secs_f64());
}
