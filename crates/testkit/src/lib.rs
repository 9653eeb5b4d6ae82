//! For tests only: private real servers (feature `servers`), a real browser (feature `browser`), faults on demand, sales
//! and orders to try things with, and the suite that every back end has to pass. Nothing of the system runs here.

#[cfg(feature = "browser")]
mod browser;
#[cfg(feature = "servers")]
mod cluster;
pub mod conformance;
mod eventually;
pub mod faults;
pub mod fixtures;
#[cfg(feature = "servers")]
pub mod proxy;
#[cfg(feature = "servers")]
mod servers;

#[cfg(feature = "browser")]
pub use browser::Browser;
#[cfg(feature = "servers")]
pub use cluster::{TestCluster, TestMySql, TestRabbit, TestRedis, cluster, mysql, rabbit, redis};
pub use eventually::eventually;
#[cfg(feature = "servers")]
pub use proxy::FaultProxy;
#[cfg(feature = "servers")]
pub use servers::{Alarm, DataCopy, PrivateMySql, PrivateRabbit, PrivateRedis, PrivateServer, Vhost};
