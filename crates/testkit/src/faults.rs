//! A real back end whose calls go wrong on demand: [`Faults`] is asked about every call. Nothing here imitates a back end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use seckill_core::Call;
use seckill_core::{Around, Backend, Dependency, Fault};
use tokio::sync::Notify;

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
    away: HashSet<Dependency>,
    asked: HashMap<Call, usize>,
    events: HashMap<Call, Vec<Event>>,
    deliveries: usize,
}

impl Faults {
    /// `backend` with wrapped ports, and what decides over them. At first nothing goes wrong.
    pub fn wrap(backend: &Backend) -> (Backend, Arc<Self>) {
        let faults = Arc::new(Self::default());
        (backend.wrapped(&faults), faults)
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

    /// Calls of this kind go well from now on, also the ones that are held, unless all of the dependency is away.
    pub fn heal(&self, call: Call) {
        let mut plan = self.plan();
        plan.standing.remove(&call);
        plan.next.remove(&call);
        drop(plan);
        self.changed.notify_waiters();
    }

    /// Every call to a dependency that does not go wrong in another way is refused until it is [`back`](Self::back).
    pub fn away(&self, dependency: Dependency) {
        self.plan().away.insert(dependency);
    }

    pub fn back(&self, dependency: Dependency) {
        self.plan().away.remove(&dependency);
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

    fn record(&self, call: Call, orders: usize) {
        self.plan().events.entry(call).or_default().push(Event { at: Instant::now(), orders });
    }

    /// What goes wrong with a call that is made now; returns once it is not held any more.
    async fn mishap(&self, dependency: Dependency, call: Call) -> Option<Mishap> {
        *self.plan().asked.entry(call).or_default() += 1;
        loop {
            // Made before the look, so that a change in between is not missed.
            let changed = self.changed.notified();
            let mishap = {
                let mut plan = self.plan();
                let next = plan.next.get_mut(&call).and_then(VecDeque::pop_front);
                let standing = next.or_else(|| plan.standing.get(&call).copied());
                standing.or_else(|| plan.away.contains(&dependency).then_some(Mishap::Away))
            };
            if mishap != Some(Mishap::Held) {
                return mishap;
            }
            changed.await;
        }
    }
}

impl Around for Faults {
    async fn around<T: Send>(
        &self,
        dependency: Dependency,
        call: Call,
        orders: usize,
        inner: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        let unknown = || Fault::unknown(dependency, format!("{call:?} is to go wrong in this test"));
        let mishap = self.mishap(dependency, call).await;
        match mishap {
            Some(Mishap::Away) => {
                return Err(Fault::unavailable(dependency, format!("{call:?} is away in this test")));
            }
            Some(Mishap::NeverArrived) => return Err(unknown()),
            Some(Mishap::Panic) => panic!("{call:?} is to panic in this test"),
            Some(Mishap::AnswerLost | Mishap::Held | Mishap::None) | None => self.record(call, orders),
        }
        let answer = inner.await?;
        if mishap == Some(Mishap::AnswerLost) {
            return Err(unknown());
        }
        if call == Call::Next {
            self.plan().deliveries += 1;
        }
        Ok(answer)
    }

    fn accepting(&self) -> bool {
        !self.not_accepting.load(Ordering::SeqCst)
    }
}
