//! The bank, which is outside of seckill: a small payment service over HTTP ([`server`]), and the port `Bank` on it
//! ([`client`]). The service stands for a real one: it answers twice, late, or never when it is told to.

pub mod client;
mod notice;
mod protocol;
pub mod server;
pub mod signature;

pub use client::HttpBank;
pub use notice::{BankNotice, NoticeKind};
