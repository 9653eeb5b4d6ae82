//! The dashboard as its users meet it: the feed and the controls over HTTP, and the page in a real browser, on both back ends.

mod after_the_order;
mod contract;
mod controls;
mod demonstration;
mod direct_gateway;
mod feed;
mod guard;
mod labs;
mod page;
mod servers;
mod shop;
mod shop_after;
mod story;
mod trouble;
