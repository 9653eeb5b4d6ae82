//! The line on stderr that shows how far a demo is: one line that changes on a terminal, one line a second elsewhere.

use std::convert::Infallible;
use std::future;
use std::io::IsTerminal;
use std::time::SystemTime;

use indicatif::{ProgressBar, ProgressStyle};
use loadtest::{Sample, Step, Watched};

use super::SAMPLE_EVERY;

pub(super) struct LiveLine {
    bar: ProgressBar,
    watched: Watched,
    began: SystemTime,
    terminal: bool,
    /// The next line is printed for a sample from this second or later.
    next_second: f64,
}

impl LiveLine {
    /// For a session that begins now.
    pub(super) fn new(watched: Watched) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}").expect("the template is right"),
        );
        Self { bar, watched, began: SystemTime::now(), terminal, next_second: 0.0 }
    }

    /// Shows the line until the drain has ended. Then it waits to be dropped.
    pub(super) async fn show(&mut self) -> Infallible {
        let mut steps = self.watched.steps();
        let drained = steps.wait_for(|step| matches!(step, Step::Verifying { .. }));
        tokio::pin!(drained);
        loop {
            let ended = tokio::select! {
                _ = &mut drained => true,
                () = tokio::time::sleep(SAMPLE_EVERY) => false,
            };
            if let Some(sample) = self.watched.samples.last() {
                self.show_sample(&sample);
            }
            if ended {
                self.bar.finish_and_clear();
                return future::pending().await;
            }
        }
    }

    fn show_sample(&mut self, sample: &Sample) {
        let counts = self.watched.progress.counts();
        let at = sample.seconds_after(self.began);
        let line = format!(
            "sent {} of {}   accepted {}   sold out {}   backlog {}   committed {}",
            counts.sent,
            counts.planned,
            counts.accepted,
            counts.sold_out,
            sample.backlog().unwrap_or_default(),
            sample.committed
        );
        if self.terminal {
            self.bar.set_message(line);
            self.bar.tick();
        } else if at >= self.next_second {
            self.next_second = at.floor() + 1.0;
            eprintln!("{at:>5.1} s  {line}");
        }
    }
}
