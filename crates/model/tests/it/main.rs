//! The promises hold in every state of the model, and each safeguard is needed for one of them.

mod breaks;
mod holds;
