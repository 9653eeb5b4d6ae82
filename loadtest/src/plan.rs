//! What is sent, when and by whom. Nothing here opens a connection.

mod fields;
pub mod lifecycle;
pub mod scenario;
pub mod schedule;
pub mod stages;
pub mod tokens;
