//! For tests only: private real servers, a real browser, faults on demand, and the suite that every back end has to pass. Nothing of the system runs here.

mod browser;
mod cluster;
pub mod conformance;
mod eventually;
pub mod faults;
pub mod proxy;
mod servers;

pub use browser::Browser;
pub use cluster::{TestCluster, TestMySql, TestRabbit, TestRedis, cluster, mysql, rabbit, redis};
pub use eventually::eventually;
pub use proxy::FaultProxy;
pub use servers::{Alarm, DataCopy, PrivateMySql, PrivateRabbit, PrivateRedis, PrivateServer, Vhost};
