//! What an admin may ask, with a token of the scope that each call names.

use reqwest::StatusCode;
use seckill_api::{
    AuditView, BalanceView, Coupon, EffectList, Gift, OutboxEventView, OutboxList, ParkedList, Reconciled,
    Redriven, RefundBody, RefundList, SalePatch, SaleView, SubscriberView, Timeline, WorkersBody,
    WorkersView,
};
use seckill_core::money::SagaState;
use seckill_core::{OrderId, OutboxState, Sale, SaleId, UserId};
use uuid::Uuid;

use crate::Stream;
use crate::calls::{self, Call};
use crate::error::Error;
use crate::http::Http;
use crate::recorded::{RecordedOrder, orders};

/// The calls of an admin. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct Admin {
    pub(crate) http: Http,
}

/// A sale after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The sale as it is now.
    pub sale: SaleView,
    /// Whether its gate has applied the change. Where it has not, the gateways see to it.
    pub applied: bool,
}

/// Sales and their audits. Creating one is in `create`.
impl Admin {
    /// Changes a sale's name, product or end, or raises its stock; scope `sales`. It names what is to be reached, so it may be sent
    /// again.
    ///
    /// # Errors
    /// The change is refused, or there is no answer.
    pub async fn change_sale(&self, sale: SaleId, patch: &SalePatch) -> Result<Changed, Error> {
        changed(self.http.request(calls::CHANGE_SALE, &[&sale]).json(patch)).await
    }

    /// Pauses a sale; scope `sales`. Buyers are asked to come back, and holders get their order as before.
    ///
    /// # Errors
    /// The change is refused, or there is no answer.
    pub async fn pause(&self, sale: SaleId) -> Result<Changed, Error> {
        changed(self.http.request(calls::PAUSE, &[&sale])).await
    }

    /// Resumes a paused sale; scope `sales`.
    ///
    /// # Errors
    /// The change is refused, or there is no answer.
    pub async fn resume(&self, sale: SaleId) -> Result<Changed, Error> {
        changed(self.http.request(calls::RESUME, &[&sale])).await
    }

    /// Ends a sale now; scope `sales`.
    ///
    /// # Errors
    /// The change is refused, or there is no answer.
    pub async fn close(&self, sale: SaleId) -> Result<Changed, Error> {
        changed(self.http.request(calls::CLOSE, &[&sale])).await
    }

    /// The invariants of a sale, counted now; scope `audit`.
    ///
    /// # Errors
    /// There is no such sale, too many are counted at once, or there is no answer.
    pub async fn fresh_audit(&self, sale: SaleId) -> Result<AuditView, Error> {
        self.http.request(calls::AUDIT, &[&sale]).query("fresh", "true").read().await
    }

    /// Every order of a sale that has reached its end, by id; scope `audit`. A list that breaks off ends with an error.
    ///
    /// # Errors
    /// There is no such sale, too many are listed at once, or there is no answer.
    pub async fn recorded_orders(&self, sale: SaleId) -> Result<Stream<RecordedOrder>, Error> {
        Ok(orders(self.http.request(calls::AUDIT_ORDERS, &[&sale]).stream().await?))
    }

    /// Whether each refund event of a sale had one effect at each built-in subscriber; scope `audit`.
    ///
    /// # Errors
    /// There is no such sale, too many are read at once, or there is no answer.
    pub async fn effects(&self, sale: SaleId) -> Result<EffectList, Error> {
        self.http.request(calls::EFFECTS, &[&sale]).read().await
    }
}

/// After the order; scope `operate`.
impl Admin {
    /// What happened to an order, step by step.
    ///
    /// # Errors
    /// There is no such order in the ledger, or no answer.
    pub async fn timeline(&self, order: OrderId) -> Result<Timeline, Error> {
        self.http.request(calls::TIMELINE, &[&order]).read().await
    }

    /// Refunds in this state.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn refunds(&self, state: SagaState) -> Result<RefundList, Error> {
        self.http.request(calls::REFUNDS, &[]).query("state", state.as_str()).read().await
    }

    /// Lets a refund go on that is held. `reason` has 200 characters at the most and may be empty.
    ///
    /// # Errors
    /// It is not held, or there is no answer.
    pub async fn approve_refund(&self, order: OrderId, reason: &str) -> Result<(), Error> {
        self.decide(calls::APPROVE_REFUND, order, reason).await
    }

    /// Refuses a refund that is held; the order stays paid.
    ///
    /// # Errors
    /// It is not held, or there is no answer.
    pub async fn deny_refund(&self, order: OrderId, reason: &str) -> Result<(), Error> {
        self.decide(calls::DENY_REFUND, order, reason).await
    }

    async fn decide(&self, call: Call, order: OrderId, reason: &str) -> Result<(), Error> {
        self.http.request(call, &[&order]).json(&RefundBody { reason: reason.to_owned() }).done().await
    }

    /// Adds to what a user has with us, in hundredths. Sent again, it adds again.
    ///
    /// # Errors
    /// The amount is not allowed, or there is no answer.
    pub async fn give_balance(&self, user: UserId, cents: u64) -> Result<BalanceView, Error> {
        self.http.request(calls::GIVE_BALANCE, &[&user]).json(&Gift { cents }).read().await
    }

    /// Makes a coupon.
    ///
    /// # Errors
    /// There is one of this code, or no answer.
    pub async fn add_coupon(&self, coupon: &Coupon) -> Result<Coupon, Error> {
        self.http.request(calls::ADD_COUPON, &[]).json(coupon).read().await
    }
}

/// Workers and repairs; scope `operate`. All of them may be sent again.
impl Admin {
    /// The drain rate and pause of the workers. It takes most of a second, because the gateway listens to the workers.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn workers(&self) -> Result<WorkersView, Error> {
        self.http.request(calls::WORKERS, &[]).read().await
    }

    /// Changes the drain rate of the workers, pauses or resumes them.
    ///
    /// # Errors
    /// The change is refused, or there is no answer.
    pub async fn change_workers(&self, change: &WorkersBody) -> Result<WorkersView, Error> {
        self.http.request(calls::CHANGE_WORKERS, &[]).json(change).read().await
    }

    /// Has a worker fill the gate of a sale again; the sale, whose `rebuild` shows how far it is.
    ///
    /// # Errors
    /// The sale has no gate, or there is no answer.
    pub async fn rebuild(&self, sale: SaleId) -> Result<Sale, Error> {
        self.http.request(calls::REBUILD, &[&sale]).read().await
    }

    /// Compares what the gate of a sale holds with the ledger, and sends again what is missing.
    ///
    /// # Errors
    /// The sale has no gate, or there is no answer.
    pub async fn reconcile(&self, sale: SaleId) -> Result<Reconciled, Error> {
        self.http.request(calls::RECONCILE, &[&sale]).read().await
    }

    /// Messages that wait for a human.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn parked(&self) -> Result<ParkedList, Error> {
        self.http.request(calls::PARKED, &[]).read().await
    }

    /// Moves a parked message back into the queue.
    ///
    /// # Errors
    /// There is no such message, or no answer.
    pub async fn redrive_parked(&self, message: &str) -> Result<(), Error> {
        self.http.request(calls::REDRIVE_PARKED, &[&message]).done().await
    }

    /// Removes a parked message for good.
    ///
    /// # Errors
    /// There is no such message, or no answer.
    pub async fn discard_parked(&self, message: &str) -> Result<(), Error> {
        self.http.request(calls::DISCARD_PARKED, &[&message]).done().await
    }
}

/// Events on their way; scope `operate`. All of them may be sent again.
impl Admin {
    /// Events of the outbox in this state, oldest first, 1,000 at the most.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn outbox(&self, state: OutboxState) -> Result<OutboxList, Error> {
        self.http.request(calls::OUTBOX, &[]).query("state", state.as_str()).read().await
    }

    /// One event of the outbox.
    ///
    /// # Errors
    /// There is no such event, or no answer.
    pub async fn outbox_event(&self, event: Uuid) -> Result<OutboxEventView, Error> {
        self.http.request(calls::OUTBOX_EVENT, &[&event]).read().await
    }

    /// Publishes an event once more, at once.
    ///
    /// # Errors
    /// There is no such event, or no answer.
    pub async fn redrive_event(&self, event: Uuid) -> Result<(), Error> {
        self.http.request(calls::REDRIVE_EVENT, &[&event]).done().await
    }

    /// Removes a parked event for good.
    ///
    /// # Errors
    /// There is no such event that is parked, or no answer.
    pub async fn discard_event(&self, event: Uuid) -> Result<(), Error> {
        self.http.request(calls::DISCARD_EVENT, &[&event]).done().await
    }

    /// What waits for a subscriber.
    ///
    /// # Errors
    /// There is no such subscriber, or no answer.
    pub async fn subscriber(&self, name: &str) -> Result<SubscriberView, Error> {
        self.http.request(calls::SUBSCRIBER, &[&name]).read().await
    }

    /// Ends a subscription and throws away what waits for it.
    ///
    /// # Errors
    /// There is no such subscriber, or no answer.
    pub async fn unsubscribe(&self, name: &str) -> Result<(), Error> {
        self.http.request(calls::UNSUBSCRIBE, &[&name]).done().await
    }

    /// Gives a subscriber all events again that it had parked.
    ///
    /// # Errors
    /// There is no such subscriber, or no answer.
    pub async fn redrive_subscriber(&self, name: &str) -> Result<Redriven, Error> {
        self.http.request(calls::REDRIVE_SUBSCRIBER, &[&name]).read().await
    }
}

async fn changed(request: crate::http::Request<'_>) -> Result<Changed, Error> {
    let answer = request.send().await?;
    let applied = answer.status != StatusCode::ACCEPTED;
    Ok(Changed { sale: answer.read()?, applied })
}
