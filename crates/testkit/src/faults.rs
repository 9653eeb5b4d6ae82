//! A real back end whose calls go wrong on demand. Each port is wrapped by a thin one that asks [`Faults`] about every
//! call and otherwise hands it on; nothing here imitates a back end. The wrappers themselves are in `ports`.

mod ports;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use seckill_core::{Backend, Dependency, Fault};
use tokio::sync::Notify;

/// A method of a port, or several that go wrong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `StockGate::open`.
    Open,
    /// `StockGate::reserve`.
    Reserve,
    /// `StockGate::settle`.
    Settle,
    /// `StockGate::stranded`.
    Stranded,
    /// `StockGate::holdings`, `level`, `condition`, `holders`, `progress` and `known_sales`.
    ReadGate,
    /// What changes a gate apart from orders: fence, refill, release, markers and the like.
    WriteGate,
    /// `StockGate::ping`.
    PingGate,
    /// `OrderQueue::publisher`.
    Publisher,
    /// `Publisher::publish`.
    Publish,
    /// `OrderQueue::consumer`.
    Consumer,
    /// `Consumer::next`, as asked: a wait may be cancelled and begun anew any number of times.
    Next,
    /// `Consumer::ack`.
    Ack,
    /// `Consumer::park`.
    Park,
    /// `OrderQueue::depth` and `consumers`.
    Depth,
    /// `OrderQueue::parked`, `redrive`, `discard`, `parked_depth` and `return_newer`.
    Parked,
    /// `OrderQueue::ping`.
    PingQueue,
    /// What changes a sale in the ledger, from `Ledger::create_sale` to `LockedSale::open`.
    WriteSale,
    /// What reads the ledger, except for `Ledger::orders_after`.
    ReadLedger,
    /// `Ledger::orders_after`.
    ListOrders,
    /// `Ledger::writer`.
    Writer,
    /// `LedgerWriter::commit`.
    Commit,
    /// `Ledger::ping`.
    PingLedger,
}

impl Call {
    const ALL: [Self; 22] = [
        Self::Open,
        Self::Reserve,
        Self::Settle,
        Self::Stranded,
        Self::ReadGate,
        Self::WriteGate,
        Self::PingGate,
        Self::Publisher,
        Self::Publish,
        Self::Consumer,
        Self::Next,
        Self::Ack,
        Self::Park,
        Self::Depth,
        Self::Parked,
        Self::PingQueue,
        Self::WriteSale,
        Self::ReadLedger,
        Self::ListOrders,
        Self::Writer,
        Self::Commit,
        Self::PingLedger,
    ];

    fn dependency(self) -> Dependency {
        match self {
            Self::Open
            | Self::Reserve
            | Self::Settle
            | Self::Stranded
            | Self::ReadGate
            | Self::WriteGate
            | Self::PingGate => Dependency::Gate,
            Self::Publisher
            | Self::Publish
            | Self::Consumer
            | Self::Next
            | Self::Ack
            | Self::Park
            | Self::Depth
            | Self::Parked
            | Self::PingQueue => Dependency::Queue,
            Self::WriteSale
            | Self::ReadLedger
            | Self::ListOrders
            | Self::Writer
            | Self::Commit
            | Self::PingLedger => Dependency::Ledger,
        }
    }
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Not at all: for a call that comes before the ones that do.
    None,
    /// It has its effect, and the answer is lost: [`Fault::Unknown`].
    AnswerLost,
    /// It has no effect, and the caller cannot know that: [`Fault::Unknown`].
    NeverArrived,
    /// It is refused: [`Fault::Unavailable`].
    Away,
    /// It waits until it is healed, and then goes on as if nothing had been. Cancelled before that it has no effect.
    Held,
    Panic,
}

/// A call that reached the real port.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub at: Instant,
    /// The claims or orders of the call; 0 where it has none.
    pub orders: usize,
}

/// What goes wrong, and what has been asked so far.
#[derive(Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    not_accepting: AtomicBool,
    changed: Notify,
}

#[derive(Default)]
struct Plan {
    next: HashMap<Call, VecDeque<Mishap>>,
    standing: HashMap<Call, Mishap>,
    asked: HashMap<Call, usize>,
    events: HashMap<Call, Vec<Event>>,
    deliveries: usize,
}

impl Faults {
    /// `backend` with wrapped ports, and what decides over them. At first nothing goes wrong.
    pub fn wrap(backend: &Backend) -> (Backend, Arc<Self>) {
        let faults = Arc::new(Self::default());
        (ports::wrap(backend, &faults), faults)
    }

    /// The next calls of this kind go wrong, one by one in this order; the ones after them as they did before.
    ///
    /// # Panics
    /// For [`Mishap::Held`], which only [`always`](Self::always) can do.
    pub fn next(&self, call: Call, mishaps: impl IntoIterator<Item = Mishap>) {
        let mishaps: Vec<_> = mishaps.into_iter().collect();
        assert!(!mishaps.contains(&Mishap::Held), "a call is held until all calls of its kind are healed");
        self.plan().next.entry(call).or_default().extend(mishaps);
    }

    /// Every call of this kind goes wrong until it is healed.
    pub fn always(&self, call: Call, mishap: Mishap) {
        self.plan().standing.insert(call, mishap);
        self.changed.notify_waiters();
    }

    /// Calls of this kind go well from now on, also the ones that are held.
    pub fn heal(&self, call: Call) {
        let mut plan = self.plan();
        plan.standing.remove(&call);
        plan.next.remove(&call);
        drop(plan);
        self.changed.notify_waiters();
    }

    /// Every call to a dependency is refused until it is [`back`](Self::back).
    pub fn away(&self, dependency: Dependency) {
        for call in Call::ALL.into_iter().filter(|call| call.dependency() == dependency) {
            self.always(call, Mishap::Away);
        }
    }

    /// Heals every call to a dependency.
    pub fn back(&self, dependency: Dependency) {
        for call in Call::ALL.into_iter().filter(|call| call.dependency() == dependency) {
            self.heal(call);
        }
    }

    /// Whether publishers say that the queue takes batches; they do at first.
    pub fn accept(&self, accepting: bool) {
        self.not_accepting.store(!accepting, Ordering::SeqCst);
    }

    /// Calls of this kind so far, also those that are held or went wrong.
    pub fn asked(&self, call: Call) -> usize {
        self.plan().asked.get(&call).copied().unwrap_or_default()
    }

    /// Calls of this kind that reached the real port, oldest first.
    pub fn events(&self, call: Call) -> Vec<Event> {
        self.plan().events.get(&call).cloned().unwrap_or_default()
    }

    /// Batches that consumers were given, each time that they were.
    pub fn deliveries(&self) -> usize {
        self.plan().deliveries
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // A test that failed while it held the lock has said so already.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_accepting(&self) -> bool {
        !self.not_accepting.load(Ordering::SeqCst)
    }

    fn record(&self, call: Call, orders: usize) {
        self.plan().events.entry(call).or_default().push(Event { at: Instant::now(), orders });
    }

    /// What goes wrong with a call that is made now; returns once it is not held any more.
    async fn mishap(&self, call: Call) -> Option<Mishap> {
        *self.plan().asked.entry(call).or_default() += 1;
        loop {
            // Made before the look, so that a change in between is not missed.
            let changed = self.changed.notified();
            let mishap = {
                let mut plan = self.plan();
                let next = plan.next.get_mut(&call).and_then(VecDeque::pop_front);
                next.or_else(|| plan.standing.get(&call).copied())
            };
            if mishap != Some(Mishap::Held) {
                return mishap;
            }
            changed.await;
        }
    }

    /// Makes a call, as it is to go. `inner` has no effect before it is awaited.
    async fn around<T>(
        &self,
        call: Call,
        orders: usize,
        inner: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mishap = self.mishap(call).await;
        let unknown = || Fault::unknown(call.dependency(), format!("{call:?} is to go wrong in this test"));
        match mishap {
            Some(Mishap::Away) => {
                Err(Fault::unavailable(call.dependency(), format!("{call:?} is away in this test")))
            }
            Some(Mishap::NeverArrived) => Err(unknown()),
            Some(Mishap::Panic) => panic!("{call:?} is to panic in this test"),
            Some(Mishap::AnswerLost) => {
                self.record(call, orders);
                inner.await?;
                Err(unknown())
            }
            Some(Mishap::Held | Mishap::None) | None => {
                self.record(call, orders);
                inner.await
            }
        }
    }
}
