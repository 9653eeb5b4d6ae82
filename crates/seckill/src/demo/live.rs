//! How far a demo is, on stderr: on a terminal the chart as it grows, elsewhere a line a second.

use std::convert::Infallible;
use std::future;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use loadtest::{Counts, Sample, Step, Watched};

use super::curves::Curves;
use super::{SAMPLE_EVERY, chart, verdict};
use crate::cli::demo::DemoArgs;
use crate::terminal;

pub(super) struct LiveView {
    bar: ProgressBar,
    watched: Watched,
    began: SystemTime,
    terminal: bool,
    /// What is drawn, up to now.
    curves: Curves,
    /// Samples that are in it.
    seen: usize,
    drain_rate: Option<u32>,
    /// The next line is printed for a sample from this second or later.
    next_second: f64,
}

impl LiveView {
    /// For a session that begins now.
    pub(super) fn new(watched: Watched, args: &DemoArgs) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is right"));
        let drain_rate = verdict::limit(args.drain_rate);
        let curves = Curves { seconds: expected(args, drain_rate).as_secs_f64(), ..Curves::default() };
        let began = SystemTime::now();
        Self { bar, watched, began, terminal, curves, seen: 0, drain_rate, next_second: 0.0 }
    }

    /// Shows it until the drain has ended. Then it waits to be dropped.
    pub(super) async fn show(&mut self) -> Infallible {
        let mut steps = self.watched.steps();
        let drained = steps.wait_for(|step| matches!(step, Step::Verifying { .. }));
        tokio::pin!(drained);
        loop {
            let ended = tokio::select! {
                _ = &mut drained => true,
                () = tokio::time::sleep(SAMPLE_EVERY) => false,
            };
            let counts = self.watched.progress.counts();
            let samples = self.watched.samples.all();
            self.curves.add_samples(&samples[self.seen..], self.began);
            self.seen = samples.len();
            match samples.last() {
                _ if self.terminal => self.draw(counts, samples.last()),
                Some(sample) => self.print(counts, sample),
                None => {}
            }
            if ended {
                self.bar.finish_and_clear();
                return future::pending().await;
            }
        }
    }

    /// On a terminal: the chart up to now, and the numbers below it.
    fn draw(&mut self, counts: Counts, sample: Option<&Sample>) {
        let now = self.began.elapsed().unwrap_or_default().as_secs_f64();
        self.curves.sent.push((now, counts.sent as f64));
        self.curves.known = now;
        self.curves.seconds = self.curves.seconds.max(now);
        let room = terminal::stderr();
        let columns = room.map_or(80, |room| room.columns);
        let mut text = chart::draw(&self.curves, self.drain_rate, room);
        text.push_str(&terminal::lines(&numbers(counts, sample), "   ", columns - 1).join("\n"));
        self.bar.set_message(text);
        self.bar.tick();
    }

    fn print(&mut self, counts: Counts, sample: &Sample) {
        let at = sample.seconds_after(self.began);
        if at >= self.next_second {
            self.next_second = at.floor() + 1.0;
            eprintln!("{at:>5.1} s  {}", numbers(counts, Some(sample)).join("   "));
        }
    }
}

/// Nothing of it stays on the terminal, also where a run is ended early.
impl Drop for LiveView {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn numbers(counts: Counts, sample: Option<&Sample>) -> [String; 5] {
    [
        format!("sent {} of {}", counts.sent, counts.planned),
        format!("accepted {}", counts.accepted),
        format!("sold out {}", counts.sold_out),
        format!("backlog {}", sample.and_then(Sample::backlog).unwrap_or_default()),
        format!("committed {}", sample.map_or(0, |sample| sample.committed)),
    ]
}

/// How long the run should take: the axis of the chart ends there, and goes on where it takes longer.
fn expected(args: &DemoArgs, drain_rate: Option<u32>) -> Duration {
    let orders = f64::from(args.stock.min(args.buyers));
    let drain = drain_rate.map_or(0.0, |rate| orders / f64::from(rate.max(1)));
    args.arrival.max(Duration::from_secs_f64(drain))
}
