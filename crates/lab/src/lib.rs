//! Controls for demonstrations: load runs inside a gateway, settings for all processes, and injected faults. A process
//! without a demonstration has none of this.
//!
//! [`routes`] are the controls of a gateway, with [`load`] behind them. [`SettingsApplier`] applies the settings in each
//! process, and [`InjectedFaults`] are between that process and its back end. The page that shows it all is in
//! `seckill-dashboard`.

mod apply;
mod control;
pub mod experiment;
pub mod experiments;
mod faults;
pub mod load;
mod sale;

pub use apply::{SettingsApplier, WorkerControl};
pub use control::{Controls, routes};
pub use faults::InjectedFaults;
pub use sale::demo_sale;
