//! What a buyer may ask, with a token.

use seckill_api::{
    ChallengeView, OrderList, OrderRequest, OrderView, PaymentBody, PaymentView, PlaceView, Placed,
    RefundBody, TicketRequest, TicketView, Timeline,
};
use seckill_core::{OrderId, SaleId};

use crate::error::Error;
use crate::events::events;
use crate::http::{Http, Made};
use crate::{Stream, calls};

/// The calls of one buyer. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct Buyer {
    pub(crate) http: Http,
}

impl Buyer {
    /// Orders units, with the ticket where the sale needs one. Sent again, the same request gets the order that there is, and takes
    /// no second unit: [`Made::replayed`].
    ///
    /// # Errors
    /// The order is refused, or there is no answer. Where it [may have happened](Error::may_have_happened), the order may stand.
    pub async fn order(
        &self,
        sale: SaleId,
        request: &OrderRequest,
        ticket: Option<&str>,
    ) -> Result<Made<Placed>, Error> {
        let mut order = self.http.request(calls::ORDER, &[&sale]).json(request);
        if let Some(ticket) = ticket {
            order = order.header("seckill-ticket", ticket);
        }
        order.send().await?.made()
    }

    /// The buyer's orders in a sale, oldest first.
    ///
    /// # Errors
    /// There is no such sale, or no answer.
    pub async fn orders(&self, sale: SaleId) -> Result<OrderList, Error> {
        self.http.request(calls::MY_ORDERS, &[&sale]).read().await
    }

    /// One order, at most a second old.
    ///
    /// # Errors
    /// The buyer has no such order, or there is no answer.
    pub async fn order_status(&self, order: OrderId) -> Result<OrderView, Error> {
        self.http.request(calls::ORDER_STATUS, &[&order]).read().await
    }

    /// One order, first as it is and then whenever its status changes. It ends when nothing more happens to the order by itself, and
    /// when the gateway shuts down: then ask again.
    ///
    /// # Errors
    /// The buyer has no such order, or there is no answer.
    pub async fn order_events(&self, order: OrderId) -> Result<Stream<OrderView>, Error> {
        Ok(events(self.http.request(calls::ORDER_EVENTS, &[&order]).stream().await?, "status"))
    }

    /// Gives an unpaid order back; the order as it is then. It may be sent again.
    ///
    /// # Errors
    /// The order cannot be cancelled any more, or there is no answer.
    pub async fn cancel(&self, order: OrderId) -> Result<OrderView, Error> {
        self.http.request(calls::CANCEL, &[&order]).read().await
    }

    /// Fetches a ticket; `solution` is that of a [challenge](Self::challenge), where the ticket costs one. It may be sent again.
    ///
    /// # Errors
    /// The buyer gets none, or there is no answer.
    pub async fn ticket(&self, sale: SaleId, solution: Option<&str>) -> Result<TicketView, Error> {
        let request = TicketRequest { altcha: solution.map(str::to_owned) };
        self.http.request(calls::TICKET, &[&sale]).json(&request).read().await
    }

    /// The work that a ticket costs now.
    ///
    /// # Errors
    /// Tickets of this sale cost none, or there is no answer.
    pub async fn challenge(&self, sale: SaleId) -> Result<ChallengeView, Error> {
        self.http.request(calls::CHALLENGE, &[&sale]).read().await
    }

    /// Enters the waiting room of a sale, once however often it is sent. A buyer whose turn has passed comes in again, behind everyone.
    ///
    /// # Errors
    /// The room is not open, or full, or there is no answer.
    pub async fn enter(&self, sale: SaleId) -> Result<PlaceView, Error> {
        self.http.request(calls::ENTER, &[&sale]).read().await
    }

    /// Where the buyer stands in the waiting room.
    ///
    /// # Errors
    /// The buyer has not entered, or there is no answer.
    pub async fn place(&self, sale: SaleId) -> Result<PlaceView, Error> {
        self.http.request(calls::PLACE, &[&sale]).read().await
    }

    /// Where the buyer stands, first as it is and then whenever it changes.
    ///
    /// # Errors
    /// The buyer has not entered, or there is no answer.
    pub async fn place_events(&self, sale: SaleId) -> Result<Stream<PlaceView>, Error> {
        Ok(events(self.http.request(calls::PLACE_EVENTS, &[&sale]).stream().await?, "place"))
    }

    /// Pays an order. `key` names this payment, with 1 to 255 visible ASCII characters: the same key with the same payment is charged
    /// once, however often it is sent.
    ///
    /// # Errors
    /// The payment is refused, or there is no answer: then send it again under the same key.
    pub async fn pay(&self, order: OrderId, payment: &PaymentBody, key: &str) -> Result<PaymentView, Error> {
        self.http.request(calls::PAY, &[&order]).header("idempotency-key", key).json(payment).read().await
    }

    /// Asks for the money back; the order, whose status shows how far it is. `reason` has 200 characters at the most and may be empty.
    ///
    /// # Errors
    /// The order is not paid, or there is no answer.
    pub async fn refund(&self, order: OrderId, reason: &str) -> Result<OrderView, Error> {
        let body = RefundBody { reason: reason.to_owned() };
        self.http.request(calls::REFUND, &[&order]).json(&body).read().await
    }

    /// What happened to an order, step by step.
    ///
    /// # Errors
    /// The buyer has no such order, or there is no answer.
    pub async fn timeline(&self, order: OrderId) -> Result<Timeline, Error> {
        self.http.request(calls::TIMELINE, &[&order]).read().await
    }
}
