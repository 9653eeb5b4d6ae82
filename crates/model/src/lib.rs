//! A model of the order protocol: how an order goes from the gate through the queue into the ledger, and how the loss of
//! one of these three stores is repaired. The checker `stateright` visits every state that the model can reach within
//! bounds, so a promise is checked for every order of steps, crashes, delays and losses. `docs/model.md` says what is
//! left out.

mod bounds;
mod fault;
mod gateway;
mod heal;
mod model;
pub mod promise;
mod rebuild;
mod safeguard;
pub mod search;
mod state;
mod symmetry;
mod worker;

pub use bounds::Bounds;
pub use model::{Action, Protocol};
pub use safeguard::{Safeguard, Safeguards};
pub use state::{
    Gate, Lane, Ledger, Left, Message, Messages, Phase, Queue, Rebuild, Row, State, Step, Worker,
};
