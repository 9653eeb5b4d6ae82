//! The live page and its feed: they show what a system is doing, and change nothing. The controls are in `seckill-lab`. Beside them
//! [`shop()`], the page for buyers.
//!
//! In every process a [`Reporter`] publishes snapshots of that process. In gateways a [`Feed`] adds the snapshots of all
//! processes up, and [`routes`] serves the page and the feed. None of it is on the path of an order.

mod after;
mod assets;
mod feed;
mod live;
mod loads;
mod log;
mod news;
mod page;
pub mod problem;
mod process;
mod refunds;
mod report;
mod rows;
mod scrape;
mod settings;
mod shop;
mod watch;

pub use feed::Feed;
pub use page::routes;
pub use report::{EVERY, Identity, Reporter, SettingsHandler, WorkerState};
pub use settings::settings_view;
pub use shop::shop;
pub use watch::SaleView;
