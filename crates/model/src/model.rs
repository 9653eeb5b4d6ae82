//! The model that the checker runs: its actions, and the promises that must hold in every state.

use stateright::{Model, Property};

use crate::state::{Message, State, Step};
use crate::{Bounds, Safeguards, fault, gateway, promise, rebuild, symmetry, worker};

/// The protocol within bounds, with the safeguards that are in force.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// Size of the system and number of faults.
    pub bounds: Bounds,
    /// The safeguards that are in force.
    pub safeguards: Safeguards,
    /// States that differ only in the names of users or lanes are taken for one. Saves time; makes a trace hard to read.
    pub symmetry: bool,
    /// Also checks in every state that the system heals when no more faults come. Takes much longer.
    pub healing: bool,
}

/// One step. Lanes and workers are numbered from 0, order ids are two for each user: 0 and 1 for user 0, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `reserve` by a gateway that believes in `epoch`. A buyer who has an order gets that one again.
    Reserve {
        lane: u8,
        user: u8,
        epoch: u8,
    },
    /// The recoverer takes a pending order.
    Recover {
        lane: u8,
        order: u8,
    },
    /// The reconciler takes an order that neither ledger nor queue has.
    Reconcile {
        lane: u8,
        order: u8,
    },
    /// The pending log is written, in a step of its own.
    LogPending(u8),
    /// The message is in the queue, confirmed.
    Publish(u8),
    /// The buyer gets 202 or 200.
    Answer(u8),
    /// The pending entry goes.
    Settle(u8),
    /// The gateway dies, or gives the claim up.
    GatewayDies(u8),
    /// A worker takes a message.
    Take(u8, Message),
    /// A worker takes a second copy of a message.
    TakeCopy(u8, Message),
    /// A worker takes the marker.
    TakeMarker(u8),
    /// The transaction of a worker.
    Commit(u8),
    Acknowledge(u8),
    /// A worker opens a consumer.
    Consume(u8),
    /// A worker closes its consumer because another one rebuilds.
    StepAside(u8),
    /// A worker becomes the owner of a rebuild.
    BeginRebuild(u8),
    /// The next step of the rebuild that this worker believes to own.
    Rebuild(u8, Step),
    WorkerDies(u8),
    /// The broker gives up a worker that is frozen.
    BrokerClosesChannel(u8),
    /// The connection of a worker to the broker breaks, and it drops what it held.
    ConnectionBreaks(u8),
    /// A worker finds out that it owns its rebuild no more.
    GiveRebuildUp(u8),
    /// The database gives up an owner that is frozen inside its transaction.
    DatabaseEndsSession(u8),
    /// The state that the gate may go back to.
    GateIsSaved,
    LedgerIsSaved,
    /// The gate loses everything.
    GateIsWiped,
    /// The gate comes back as it was.
    GateIsOlder,
    /// The queue loses everything.
    QueueIsLost,
    /// The ledger goes back to its backup.
    LedgerIsOlder,
}

impl Protocol {
    pub(crate) fn step(&self, state: &mut State, action: Action) -> Option<()> {
        let Self { bounds, safeguards, .. } = self;
        let safeguards = *safeguards;
        match action {
            Action::Reserve { lane, user, epoch } => {
                gateway::reserve(bounds, safeguards, state, lane, user, epoch)?;
            }
            Action::Recover { lane, order } | Action::Reconcile { lane, order } => {
                gateway::send_again(state, lane, order);
            }
            Action::LogPending(lane) => gateway::log_pending(state, lane)?,
            Action::Publish(lane) => gateway::publish(state, lane)?,
            Action::Answer(lane) => gateway::answer(state, lane)?,
            Action::Settle(lane) => gateway::settle(safeguards, state, lane)?,
            Action::GatewayDies(lane) => state.lanes[lane as usize] = None,
            Action::Take(at, message) => worker::take(safeguards, state, at, message),
            Action::TakeCopy(at, message) => worker::take_copy(safeguards, state, at, message),
            Action::TakeMarker(at) => rebuild::take_marker(safeguards, state, at),
            Action::Commit(at) => worker::commit(bounds, safeguards, state, at)?,
            Action::Acknowledge(at) => worker::acknowledge(safeguards, state, at)?,
            Action::Consume(at) => worker::consume(safeguards, state, at)?,
            Action::StepAside(at) => worker::step_aside(state, at),
            Action::BeginRebuild(at) => rebuild::begin(safeguards, state, at)?,
            Action::Rebuild(at, _) => rebuild::step(bounds, safeguards, state, at)?,
            Action::WorkerDies(at) => fault::worker_dies(state, at),
            Action::BrokerClosesChannel(at) => fault::broker_closes_channel(safeguards, state, at),
            Action::ConnectionBreaks(at) => fault::connection_breaks(safeguards, state, at),
            Action::GiveRebuildUp(at) => rebuild::give_up(state, at),
            Action::DatabaseEndsSession(_) => fault::database_ends_session(state),
            Action::GateIsSaved => state.older_gate = Some(state.gate),
            Action::LedgerIsSaved => state.backup = Some(state.ledger),
            Action::GateIsWiped => fault::gate_is_wiped(state),
            Action::GateIsOlder => fault::gate_is_older(state)?,
            Action::QueueIsLost => fault::queue_is_lost(state),
            Action::LedgerIsOlder => fault::ledger_is_older(state)?,
        }
        Some(())
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(&self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        gateway::actions(&self.bounds, self.safeguards, state, actions);
        worker::actions(&self.bounds, self.safeguards, state, actions);
        rebuild::actions(&self.bounds, state, actions);
        fault::actions(&self.bounds, self.safeguards, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.step(&mut state, action)?;
        if self.symmetry {
            state = symmetry::representative(&self.bounds, &state);
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(promise::NEVER_OVERSOLD, promise::never_oversold),
            Property::always(promise::ONE_ORDER_A_USER, promise::one_order_a_user),
            Property::always(promise::ONE_ROW_AN_ID, promise::one_row_an_id),
            Property::always(promise::NEVER_LOST, promise::never_lost),
            Property::always(promise::CONSERVED, promise::conserved),
            Property::always(promise::SAME_ANSWER, promise::same_answer),
            Property::always(promise::HEALS, promise::heals),
        ]
    }
}
