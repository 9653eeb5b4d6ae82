//! The load generator of a flash sale: it sends the buyers on a schedule, keeps every answer, and follows every order
//! that was promised to its end. It sees only HTTP and knows nothing of the system behind it.
//!
//! ```no_run
//! # async fn example() -> Result<(), loadtest::Error> {
//! use std::time::Duration;
//!
//! use loadtest::{CancellationToken, Clients, Job, Plan, Progress, Target, Tokens, VerifySettings};
//!
//! let plan = Plan { retry_ratio: 0.1, ..Plan::spread(20_000, 1, Duration::from_secs(2)) };
//! let tokens = Tokens::sign(&plan, |user| format!("token-of-{user}"))?;
//! let mut clients = Clients::connect(Target::parse("http://127.0.0.1:8080")?, 256).await?;
//! let cancel = CancellationToken::new();
//! let progress = Progress::shared();
//! let run = loadtest::run(&mut clients, &Job::new(plan, 1, tokens.clone()), &progress, &cancel).await?;
//! let checked =
//!     loadtest::verify(&mut clients, &run.orders(), &tokens, &VerifySettings::default(), &cancel).await;
//! println!("{} sent, {} lost", run.counts().sent, checked.lost());
//! # Ok(())
//! # }
//! ```

mod bulk;
mod client;
mod compare;
mod cpu;
mod error;
#[cfg(feature = "html")]
pub mod html;
mod latency;
mod limits;
mod outcome;
mod plan;
mod progress;
mod report;
mod run;
mod samples;
mod scenario;
mod series;
mod session;
mod shop;
mod stages;
mod target;
mod template;
mod text;
mod threshold;
mod tokens;
mod verify;
mod weigh;

pub use bulk::Recorded;
pub use client::{Answer, Client, Clients, Failure};
pub use compare::compare;
pub use error::Error;
pub use latency::Latency;
pub use limits::open_files;
pub use outcome::{Kind, Outcome, Reader};
pub use plan::{Arrivals, MAX_REQUESTS, Plan, Slot};
pub use progress::{Counts, Progress};
pub use report::{
    GeneratorReport, Latencies, LatencyReport, Method, Model, PlanReport, RatesReport, Report,
    SCHEMA_VERSION, SaleReport, Second, StageReport, ThresholdReport, UnknownReport, Verdict,
    VerificationReport,
};
pub use run::{Job, Order, Record, Run, run};
pub use samples::{Drain, Sample, Samples};
pub use scenario::Scenario;
pub use series::Bucket;
pub use session::{Played, Session, Step, Watched};
pub use shop::{Audit, AuditState, SaleView, Shop, bearer};
pub use stages::{Stage, Stages, parse_duration, parse_rate};
pub use target::Target;
pub use template::Template;
pub use threshold::Threshold;
pub use tokens::Tokens;
pub use verify::{Check, End, Verification, VerifySettings, verify, wait_for_drain};
pub use weigh::{Aftermath, Header};

pub use tokio_util::sync::CancellationToken;
