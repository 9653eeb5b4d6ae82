//! The load generator of a flash sale: it sends the buyers on a schedule, keeps every answer, and follows every order
//! that was promised to its end. It sees only HTTP and knows nothing of the system behind it.
//!
//! ```no_run
//! # async fn example() -> Result<(), loadtest::Error> {
//! use std::time::Duration;
//!
//! use loadtest::{CancellationToken, Clients, Job, Plan, Progress, Report, Target, Tokens, VerifySettings};
//!
//! let plan = Plan { buyers: 20_000, first_user: 1, arrival: Duration::from_secs(2), retry_ratio: 0.1, seed: 1 };
//! let tokens = Tokens::sign(&plan, |user| format!("token-of-{user}"))?;
//! let mut clients = Clients::connect(Target::parse("http://127.0.0.1:8080")?, 256).await?;
//! let cancel = CancellationToken::new();
//! let progress = Progress::shared();
//! let run = loadtest::run(&mut clients, &Job::new(plan, 1, tokens.clone()), &progress, &cancel).await?;
//! let checked =
//!     loadtest::verify(&mut clients, &run.orders(), &tokens, &VerifySettings::default(), &cancel).await;
//! println!("{}", Report::new(&run, Some(&checked)));
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod outcome;
mod plan;
mod progress;
mod report;
mod run;
mod target;
mod tokens;
mod verify;

pub use client::{Answer, Client, Clients, Failure, Template};
pub use error::Error;
pub use outcome::{Kind, Outcome, Reader};
pub use plan::{Plan, Slot};
pub use progress::{Counts, Progress};
pub use report::{Bucket, Latency, OrdersReport, Report};
pub use run::{Job, Order, Record, Run, run};
pub use target::Target;
pub use tokens::Tokens;
pub use verify::{Check, End, Verification, VerifySettings, verify, wait_for_drain};

pub use tokio_util::sync::CancellationToken;
