//! The progress of a run on stderr: on a terminal a view that changes in place, elsewhere a line a second, and nothing with
//! `--quiet`.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use loadtest::check::samples::Samples;
use loadtest::send::latency::Latency;
use loadtest::send::lifecycle::LifeProgress;
use loadtest::send::progress::{Counts, Progress};
use loadtest::session::{Step, Watched};

/// The pause between two updates on a terminal, and between two lines elsewhere.
const REDRAW_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Where the progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Terminal,
    Lines,
    Nothing,
}

impl View {
    pub(crate) fn of(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Terminal,
            (false, false) => Self::Lines,
        }
    }

    pub(crate) fn print(self, text: &str) {
        if self != Self::Nothing {
            eprintln!("{text}");
        }
    }

    /// Calls `look` again and again, and shows its lines under a bar that is filled to its share, 0 to 1. Runs until it is dropped.
    pub(crate) async fn show(self, mut look: impl FnMut(Duration) -> (f64, Vec<String>)) {
        if self == Self::Nothing {
            // `look` is never called, so a quiet run does not pay for the measurement.
            return std::future::pending().await;
        }
        let began = Instant::now();
        let bar = Bar::new(self);
        let every = if self == Self::Terminal { REDRAW_EVERY } else { LINE_EVERY };
        loop {
            tokio::time::sleep(every).await;
            let (done, lines) = look(began.elapsed());
            if self == Self::Terminal {
                bar.draw(done, &lines);
            } else {
                eprintln!("{:>6.1} s  {}", began.elapsed().as_secs_f64(), lines.join("   "));
            }
        }
    }
}

/// A bar that is cleared when it is dropped.
struct Bar(ProgressBar);

impl Bar {
    const STEPS: u64 = 1_000;

    fn new(view: View) -> Self {
        let bar = if view == View::Terminal { ProgressBar::new(Self::STEPS) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:40.cyan} {percent:>3} %  {elapsed}\n{msg}");
        bar.set_style(style.expect("the template is right").progress_chars("█▉▊▋▌▍▎▏ "));
        Self(bar)
    }

    fn draw(&self, done: f64, lines: &[String]) {
        self.0.set_message(lines.join("\n"));
        self.0.set_position((done.clamp(0.0, 1.0) * Self::STEPS as f64) as u64);
        self.0.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The sending: requests sent and answered, latency, backlog. `lasts` is 0 where only the number of requests ends it.
fn run(
    progress: Arc<Progress>,
    samples: Samples,
    lasts: Duration,
) -> impl FnMut(Duration) -> (f64, Vec<String>) {
    let (mut before, mut at) = (Counts::default(), Duration::ZERO);
    move |now| {
        let counts = progress.counts();
        let a_second =
            |count: u64, before: u64| (count - before) as f64 / (now - at).as_secs_f64().max(0.001);
        let of = if counts.planned > 0 { format!(" of {}", counts.planned) } else { String::new() };
        let sent = format!(
            "sent {}{of} ({:.0}/s)   under way {}",
            counts.sent,
            a_second(counts.sent, before.sent),
            counts.sent.saturating_sub(counts.ended())
        );
        let answered = format!(
            "accepted {} ({:.0}/s)   sold out {} ({:.0}/s)   other {}",
            counts.accepted,
            a_second(counts.accepted, before.accepted),
            counts.sold_out,
            a_second(counts.sold_out, before.sold_out),
            counts.ended() - counts.accepted - counts.sold_out
        );
        let lines = vec![sent, answered, latency(&progress.take_recent(), counts.late), backlog(&samples)];
        let done = if lasts.is_zero() {
            counts.ended() as f64 / counts.planned.max(1) as f64
        } else {
            now.as_secs_f64() / lasts.as_secs_f64()
        };
        (before, at) = (counts, now);
        (done, lines)
    }
}

fn latency(recent: &Latency, late: u64) -> String {
    if recent.count == 0 {
        return format!("latency -   late {late}");
    }
    let ms = |us: u64| us as f64 / 1_000.0;
    format!(
        "latency p50 {:.1} ms   p99 {:.1} ms   max {:.1} ms   late {late}",
        ms(recent.p50_us),
        ms(recent.p99_us),
        ms(recent.max_us)
    )
}

fn backlog(samples: &Samples) -> String {
    let Some(last) = samples.last() else { return "backlog -".to_owned() };
    let backlog = last.backlog().map_or("-".to_owned(), |backlog| backlog.to_string());
    format!("backlog {backlog}   committed {} ({:.0}/s)", last.committed, samples.commit_rate())
}

/// The drain: the backlog, and the time until it is gone at the present rate.
fn drain(samples: Samples) -> impl FnMut(Duration) -> (f64, Vec<String>) {
    let mut most = 0;
    move |_| {
        let left = samples.last().and_then(|last| last.backlog());
        most = most.max(left.unwrap_or_default());
        let rate = samples.commit_rate();
        let time = match left {
            Some(left) if rate > 0.0 => format!("{:.0} s left", left as f64 / rate),
            _ => "time left not known".to_owned(),
        };
        let done = left.map_or(0.0, |left| 1.0 - left as f64 / most.max(1) as f64);
        (done, vec![format!("draining: {}   {time}", backlog(&samples))])
    }
}

/// The orders after their promise: how many have ended.
fn settling(lives: Arc<LifeProgress>) -> impl FnMut(Duration) -> (f64, Vec<String>) {
    move |_| {
        let (orders, ended) = (lives.orders.load(Relaxed), lives.ended.load(Relaxed));
        let text = format!("after the order: {ended} of {orders} orders have ended");
        (ended as f64 / orders.max(1) as f64, vec![text])
    }
}

fn verification(looked_up: Arc<AtomicU64>, orders: usize) -> impl FnMut(Duration) -> (f64, Vec<String>) {
    move |_| {
        let done = looked_up.load(Relaxed);
        (done as f64 / orders.max(1) as f64, vec![format!("verifying: {done} of {orders} orders looked up")])
    }
}

/// Shows a session, step by step, until it is dropped.
pub(crate) async fn follow(view: View, watched: &Watched, lasts: Duration) {
    let (progress, samples) = (&watched.progress, &watched.samples);
    let mut steps = watched.steps();
    loop {
        let step = *steps.borrow_and_update();
        let changed = steps.changed();
        tokio::select! {
            _ = changed => {}
            () = async {
                match step {
                    Step::Sending => view.show(run(progress.clone(), samples.clone(), lasts)).await,
                    Step::Settling => view.show(settling(watched.lives.clone())).await,
                    Step::Draining => view.show(drain(samples.clone())).await,
                    Step::Verifying { orders } => {
                        view.show(verification(watched.looked_up.clone(), orders)).await;
                    }
                }
            } => {}
        }
    }
}
