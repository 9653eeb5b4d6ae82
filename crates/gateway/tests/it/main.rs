//! The gateway over real HTTP, on the embedded back end: what it answers, what that costs, and what it does when a part
//! of the system fails or it is shut down.

mod after;
mod api;
mod auth;
mod connections;
mod direct;
mod gateway;
mod health;
mod intake;
mod limits;
mod lost_gate;
mod orders;
mod reply;
mod sales;
mod shutdown;
mod status;
mod test_bed;
mod tickets;
mod unconfirmed;
mod waiting_room;
