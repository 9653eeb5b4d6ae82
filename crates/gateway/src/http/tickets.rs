//! Purchase tickets: fetching one, and sending an order with it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use seckill_api::{ChallengeView, TicketRequest, TicketView};
use seckill_core::{Phase, Sale, SaleId, SaleState, UserId, now};
use seckill_token::challenge::Challenge;
use seckill_token::ticket::{Ticket, TicketError};

use super::auth::Buyer;
use super::body::OrDefault;
use super::problem::{NotAdmitted, REBUILD_SECONDS, Refusal};
use super::waiting_room::admitted_until;
use super::{App, Id};
use crate::admission::ticket::admits;

/// The header that an order's ticket comes in.
const HEADER: &str = "seckill-ticket";

/// A buyer, and the ticket that came with the order. What a ticket is worth is looked at before anything else is done: before the
/// body is read, and without asking any server.
pub(super) struct TicketHolder {
    pub(super) user: UserId,
    ticket: Option<Ticket>,
}

impl TicketHolder {
    /// Who orders in this sale.
    pub(super) async fn of(parts: &mut Parts, app: &Arc<App>, id: SaleId) -> Result<Self, Refusal> {
        let Buyer(user) = Buyer::from_request_parts(parts, app).await?;
        let desk = app.directory.get(id);
        if desk.as_ref().is_some_and(|desk| !desk.sale.admission.require_ticket) {
            return Ok(Self { user, ticket: None });
        }
        let read = |value: &axum::http::HeaderValue| {
            let text = value.to_str().map_err(|_| TicketError::Malformed)?;
            app.tickets.read(text.trim(), id, user)
        };
        let ticket = parts.headers.get(HEADER).map(read).transpose();
        let ticket = ticket.map_err(|why| refused(NotAdmitted::TicketInvalid(why)))?;
        let holder = Self { user, ticket };
        // A sale that is not known yet is looked up later, and checked then.
        desk.map_or(Ok(()), |desk| holder.check(&desk.sale))?;
        Ok(holder)
    }

    /// Whether the buyer may order in this sale.
    pub(super) fn check(&self, sale: &Sale) -> Result<(), Refusal> {
        admits(sale, self.ticket.as_ref()).map_err(refused)
    }
}

/// Counts the refusal.
fn refused(why: NotAdmitted) -> Refusal {
    let refusal = Refusal::from(why);
    metrics::counter!("seckill_tickets_refused_total", "reason" => refusal.outcome()).increment(1);
    refusal
}

/// `GET /api/v1/sales/{id}/challenge`: the work that a ticket costs now.
pub(super) async fn challenge(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    Buyer(user): Buyer,
) -> Result<impl IntoResponse, Refusal> {
    app.read_limit.check(user)?;
    let desk = app.directory.desk(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    if !desk.sale.admission.proof_of_work {
        return Err(NotAdmitted::NoProofs(id).into());
    }
    let Challenge { algorithm, challenge, maxnumber, salt, signature } = app.proofs.challenge(id, user);
    let challenge = ChallengeView { algorithm, challenge, maxnumber, salt, signature };
    Ok(([(CACHE_CONTROL, "no-store")], Json(challenge)))
}

/// `POST /api/v1/sales/{id}/ticket`
pub(super) async fn fetch(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    Buyer(user): Buyer,
    OrDefault(request): OrDefault<TicketRequest>,
) -> Result<impl IntoResponse, Refusal> {
    app.order_limit.check(user)?;
    let desk = app.directory.desk(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    let sale = &desk.sale;
    let admission = sale.admission;
    if !admission.require_ticket {
        return Err(NotAdmitted::NoTickets(id).into());
    }
    let now = now();
    if sale.phase(now) == Phase::Closed {
        return Err(Refusal::Closed { ends_at: sale.ends_at });
    }
    let from = admission.tickets_from.unwrap_or(sale.starts_at);
    if now < from {
        return Err(NotAdmitted::TicketsLater { from }.into());
    }
    if sale.state == SaleState::Rebuilding {
        return Err(Refusal::Rebuilding { seconds: REBUILD_SECONDS });
    }
    let expires_at = if admission.waiting_room.is_some() {
        // The ticket ends with the turn: whoever fetches a second one gets no more time.
        admitted_until(&app, &desk, user).await?
    } else {
        let ttl = i64::try_from(admission.ticket_ttl_ms()).unwrap_or(i64::MAX);
        now + chrono::Duration::milliseconds(ttl)
    };
    // Last, so that nobody's work is used up for a refusal.
    if admission.proof_of_work {
        let altcha = request.altcha.ok_or(NotAdmitted::ProofRequired)?;
        let taken = app.proofs.take(app.backend.waiting.as_ref(), &altcha, id, user).await;
        taken.map_err(NotAdmitted::ProofInvalid)?;
    }
    let ticket = app.tickets.sign(sale, user, expires_at);
    metrics::counter!("seckill_tickets_total").increment(1);
    Ok(([(CACHE_CONTROL, "no-store")], Json(TicketView { sale_id: id, ticket, expires_at })))
}
