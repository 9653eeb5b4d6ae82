//! The load generator of a flash sale. It sends the buyers' requests on a schedule, keeps every answer, and looks up every
//! promised order until the order has a final row. It uses the HTTP interface only.
//!
//! [`session`] plays a run from the first request to the verdict. Below it, [`plan`] decides what is sent, [`send`] sends it,
//! [`check`] looks at the sale and its orders, and [`report`] computes and shows the report.
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

pub mod bots;
pub mod check;
pub mod error;
pub mod plan;
pub mod polling;
pub mod report;
pub mod send;
pub mod session;
pub mod waiting;

pub use check::bank::{Bank, Charges, OrderCharges};
pub use check::bulk::Recorded;
pub use check::effects::EffectCheck;
pub use check::samples::{Drain, Sample, Samples};
pub use check::shop::{Audit, AuditState, Money, SaleView, Shop, bearer};
pub use check::verify::{Check, End, Status, Verification, VerifySettings, verify, wait_for_drain};
pub use error::Error;
pub use plan::lifecycle::{Behaviour, LifecycleFlags, LifecyclePlan, Shares};
pub use plan::scenario::Scenario;
pub use plan::schedule::{Arrivals, MAX_REQUESTS, Plan, Slot};
pub use plan::stages::{Stage, Stages, parse_duration, parse_rate};
pub use plan::tokens::Tokens;
pub use report::compare::compare;
#[cfg(feature = "html")]
pub use report::html;
pub use report::lifecycle::LifecycleAftermath;
pub use report::measured::Header;
pub use report::schema::{
    BankReport, BehaviourReport, GeneratorReport, Latencies, LatencyReport, LifecycleReport, Method, Model,
    PlanReport, RatesReport, Report, SCHEMA_VERSION, SaleReport, Second, StageReport, ThresholdReport,
    UnknownReport, Verdict, VerificationReport,
};
pub use report::series::Bucket;
pub use report::threshold::Threshold;
pub use report::verification::Aftermath;
pub use send::client::{Answer, Client, Clients, Failure};
pub use send::latency::Latency;
pub use send::life::{Life, Told};
pub use send::lifecycle::{LifeProgress, Lives};
pub use send::limits::open_files;
pub use send::outcome::{Kind, Outcome, Reader};
pub use send::progress::{Counts, Progress};
pub use send::run::{Job, Order, Promise, Record, Run, run};
pub use send::target::Target;
pub use send::template::Template;
pub use session::{Played, Session, Step, Watched};
pub use waiting::{WaitingPlan, WaitingReport};

pub use tokio_util::sync::CancellationToken;
