//! Lets a demo wait for whoever is to see it: the first page, the Enter key, or ten seconds. Then it counts down.

use std::io::IsTerminal;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::say;

/// How long a demo waits at the most.
const PATIENCE: Duration = Duration::from_secs(10);
/// The countdown, in seconds. A page that has just been opened shows its first numbers within one.
const COUNTDOWN: u32 = 3;

/// Who is to see the demo.
pub(super) struct Audience {
    first_page: oneshot::Receiver<()>,
}

impl Audience {
    /// `first_page` is told when the first page is open.
    pub(super) fn new(first_page: oneshot::Receiver<()>) -> Self {
        Self { first_page }
    }

    /// Waits for them, and counts down.
    pub(super) async fn seated(self) {
        let seconds = PATIENCE.as_secs();
        say(&format!("Starting when the page is open, or in {seconds} s; Enter starts at once."));
        let key = enter();
        let came = async {
            tokio::select! {
                Ok(()) = self.first_page => {}
                () = key => {}
            }
        };
        let _ = timeout(PATIENCE, came).await;
        for left in (1..=COUNTDOWN).rev() {
            eprintln!("{left} …");
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Waits for the Enter key; for ever where nobody types.
async fn enter() {
    let (pressed, told) = oneshot::channel();
    if std::io::stdin().is_terminal() {
        // A thread of its own, since the runtime waits for its threads when it ends.
        std::thread::spawn(move || {
            let stdin = std::io::stdin();
            let within = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&within));
            // The terminal stops a program that reads in the background.
            let in_front = tcgetpgrp(&stdin).is_ok_and(|group| group == getpgrp());
            if ready == Ok(1) && in_front && stdin.read_line(&mut String::new()).is_ok() {
                let _ = pressed.send(());
            }
        });
    }
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}
