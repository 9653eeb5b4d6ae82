//! A typed client of seckill's HTTP API.
//!
//! A [`Client`] reads what everybody may see. [`Client::buyer`] and [`Client::admin`] make of it a [`Buyer`] and an [`Admin`], which
//! have the calls that need their token. Every call of the API's document is a method here, but for those that the page and the bank
//! make: [`CALLS`] lists them.
//!
//! ```no_run
//! use futures_util::StreamExt;
//! use seckill_client::{Client, Error, OrderRequest, ProblemKind};
//! use seckill_core::SaleId;
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::new("http://127.0.0.1:8080".parse().expect("a URL"))?;
//! let buyer = client.buyer("a token of this user".into());
//! let order = match buyer.order(SaleId(7), &OrderRequest::units(1), None).await {
//!     Ok(made) => made.value.order_id,
//!     Err(error) if error.kind() == Some(&ProblemKind::SoldOut) => return Ok(()),
//!     // The order may stand: the same request again gets the same order.
//!     Err(error) if error.may_have_happened() => {
//!         buyer.order(SaleId(7), &OrderRequest::units(1), None).await?.value.order_id
//!     }
//!     Err(error) => return Err(error),
//! };
//! let mut states = buyer.order_events(order).await?;
//! while let Some(state) = states.next().await {
//!     println!("the order is {}", state?.status.as_str());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Refusals and faults.** Whatever is no answer to the request is an [`Error`]. It says whether something may have happened, and a
//! refusal comes as the [`Problem`] that the gateway sent, with its kind and with the time after which to come back. Nothing is sent
//! twice by this crate, with one exception that says so: [`Admin::create_sale`].
//!
//! **Connections** are kept and used again, by all clones of a client. No proxy is used, and no redirect is followed: a request with
//! a token goes to the server that was named. A request has an answer within 30 s, unless [`Client::with_timeout`] says otherwise;
//! an event stream may be silent for 120 s. It speaks HTTP/1.1; for HTTPS, give [`Client::over`] an HTTP client that has TLS.
//!
//! Tokens are secrets: they are in no `Debug` output and in no error.

#![warn(missing_docs)]

mod admin;
mod buyer;
mod calls;
mod client;
mod create;
mod error;
mod events;
mod http;
mod lines;
mod recorded;

pub use admin::{Admin, Changed};
pub use buyer::Buyer;
pub use calls::{CALLS, Call};
pub use client::Client;
pub use error::{Error, Problem, WrongField, found};
pub use http::Made;
pub use recorded::RecordedOrder;

pub use seckill_api::*;

/// A stream of answers, which ends when the server ends it, or after the first error.
pub type Stream<T> = futures_util::stream::BoxStream<'static, Result<T, Error>>;
