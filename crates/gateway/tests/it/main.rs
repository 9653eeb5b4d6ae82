//! The gateway over real HTTP, on the embedded back end: what it answers, what that costs, and what it does when a part
//! of the system fails or it is shut down.

mod admins;
mod after;
mod api;
mod audits;
mod auth;
mod client;
mod connections;
mod contract;
mod crowd;
mod direct;
mod doors;
mod gateway;
mod health;
mod intake;
mod jwks;
mod key_files;
mod limits;
mod lost_gate;
mod orders;
mod reads;
mod reply;
mod sale_changes;
mod sale_creation;
mod sales;
mod scenarios;
mod shutdown;
mod sold_out;
mod status;
mod test_bed;
mod tickets;
mod tls;
mod trace;
mod unconfirmed;
mod waiting_room;
mod workers;
