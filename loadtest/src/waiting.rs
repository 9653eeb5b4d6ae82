//! The scenario `waiting-room`: buyers enter before the start, wait, fetch a ticket in their turn, solving the proof of work where one
//! is asked for, and order. What is judged: the inlet keeps its rate, the draw follows from the seed that was committed to, and
//! nobody orders without having been admitted.

pub mod draw;

use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use seckill_client::{ChallengeView, InletState, OrderRequest, PlaceState, ProblemKind, RoomView};
use seckill_core::{NewSale, SaleId};
use seckill_token::challenge::{Challenge, solve};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::check::shop::{self, Shop};
use crate::error::Error;
use crate::plan::tokens::Tokens;
use crate::send::client::Clients;

/// The most by which the inlet may leave its rate.
const TOLERANCE: f64 = 0.05;
/// The pauses between two looks of a buyer who waits.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the shared document is read.
const LOOK: Duration = Duration::from_millis(500);

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct WaitingPlan {
    /// Buyers, all of whom enter before the start; one connection each.
    pub buyers: u32,
    /// Units of the sale.
    pub stock: u32,
    /// Buyers that the inlet is to admit in a second.
    pub rate: u32,
    /// How long after its making the sale starts.
    pub starts_in: Duration,
    /// Whether a ticket costs a proof of work.
    pub proof_of_work: bool,
    /// When to give up.
    pub deadline: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingReport {
    pub sale: u64,
    pub buyers: u32,
    /// Buyers who entered before the start, or at all.
    pub entered: u32,
    /// Buyers who got a ticket.
    pub tickets: u32,
    /// Orders that were accepted.
    pub orders: u32,
    /// Orders that came to a sale that was sold out.
    pub sold_out: u32,
    /// Orders without a ticket, of each buyer one, that were accepted. 0 is right.
    pub without_ticket: u32,
    /// Tickets that were handed out to buyers who had not been admitted. 0 is right.
    pub before_admission: u32,
    /// Buyers a second that the inlet was to admit, and did, while it admitted.
    pub rate_wanted: f64,
    pub rate_measured: Option<f64>,
    /// Whether the revealed seed has the hash that was shown before.
    pub seed_as_committed: bool,
    /// Positions that do not follow from the seed. 0 is right.
    pub positions_wrong: u32,
    /// What was not as it should be, in sentences.
    pub findings: Vec<String>,
}

impl WaitingReport {
    /// Whether everything that was promised was kept.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A buyer's end.
#[derive(Debug, Default)]
struct Buyer {
    number: u64,
    position: Option<u64>,
    ticket: bool,
    ordered: bool,
    sold_out: bool,
    without_ticket: bool,
    before_admission: bool,
    failure: Option<String>,
}

/// Makes a sale with a waiting room and plays it.
///
/// # Errors
/// [`Error::Shop`] when the server does not make the sale, or does not answer.
pub async fn play(
    clients: &Clients,
    admin: &HeaderValue,
    tokens: &Tokens,
    plan: WaitingPlan,
) -> Result<WaitingReport, Error> {
    let client = clients.typed();
    let sale = SaleId(Shop::new(clients).make(admin, new_sale(plan)?).await?.id);
    let begun = Instant::now();
    let mut buyers = JoinSet::new();
    for buyer in 0..plan.buyers {
        let asking = client.buyer(shop::token(&tokens.header(buyer)));
        buyers.spawn(async move { buy(&asking, sale, begun + plan.deadline).await });
    }
    let mut rooms: Vec<RoomView> = Vec::new();
    let mut ended = Vec::new();
    // Not begun anew by every buyer who ends.
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            buyer = buyers.join_next() => match buyer {
                Some(Ok(buyer)) => ended.push(buyer),
                Some(Err(panic)) => return Err(refused(format!("a buyer failed: {panic}"))),
                None => break,
            },
            _ = looks.tick() => match client.waiting_room(sale).await {
                Ok(room) => rooms.push(room),
                // The next look is soon.
                Err(error) if pause_after(&error).is_some() => {}
                Err(error) => return Err(refused(error)),
            },
        }
    }
    rooms.push(patiently(begun + plan.deadline, || client.waiting_room(sale)).await.map_err(refused)?);
    Ok(judge(sale.0, plan, &rooms, &ended))
}

fn refused(reason: impl std::fmt::Display) -> Error {
    Error::Shop { doing: "play a waiting room", reason: reason.to_string() }
}

fn new_sale(plan: WaitingPlan) -> Result<NewSale, Error> {
    let at = |after: Duration| humantime::format_rfc3339_millis(SystemTime::now() + after).to_string();
    let sale = json!({
        "name": "Load test", "stock": plan.stock, "require_ticket": true, "proof_of_work": plan.proof_of_work,
        "starts_at": at(plan.starts_in), "ends_at": at(plan.starts_in + plan.deadline + Duration::from_secs(60)),
        "waiting_room": {"opens_before_ms": 86_400_000, "rate_per_second": plan.rate},
    });
    serde_json::from_value(sale).map_err(refused)
}

/// How long to wait before the same call again: the server has too much to do, or a part of it is away. `None`: for nothing.
fn pause_after(error: &seckill_client::Error) -> Option<Duration> {
    let passes = matches!(error.status(), Some(429 | 503));
    let wanted = error.problem().and_then(|problem| problem.retry_after);
    passes.then(|| wanted.unwrap_or(LEAST_PAUSE).clamp(LEAST_PAUSE, LONGEST_PAUSE))
}

/// Makes a call that may be made again, until it is answered.
async fn patiently<T, C>(deadline: Instant, call: impl Fn() -> C) -> Result<T, seckill_client::Error>
where
    C: Future<Output = Result<T, seckill_client::Error>>,
{
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match pause_after(&error) {
            Some(pause) if Instant::now() < deadline => sleep(pause).await,
            _ => return Err(error),
        }
    }
}

async fn buy(asking: &seckill_client::Buyer, sale: SaleId, deadline: Instant) -> Buyer {
    let mut buyer = Buyer::default();
    if let Err(failure) = try_buy(asking, sale, deadline, &mut buyer).await {
        buyer.failure = Some(failure);
    }
    buyer
}

async fn try_buy(
    asking: &seckill_client::Buyer,
    sale: SaleId,
    deadline: Instant,
    buyer: &mut Buyer,
) -> Result<(), String> {
    let one = OrderRequest::default();
    let entered = patiently(deadline, || asking.enter(sale)).await.map_err(|error| error.to_string())?;
    buyer.number = entered.number;
    // What a script does that does not wait: neither may work.
    let early = asking.ticket(sale, None).await.is_ok();
    let place = patiently(deadline, || asking.place(sale)).await.map_err(|error| error.to_string())?;
    buyer.before_admission = early && place.state != PlaceState::Admitted;
    buyer.without_ticket = asking.order(sale, &one, None).await.is_ok();
    loop {
        let place = patiently(deadline, || asking.place(sale)).await.map_err(|error| error.to_string())?;
        buyer.position = place.position;
        let wait = match place.state {
            PlaceState::Admitted => break,
            PlaceState::Expired => return Err("the turn has passed".into()),
            PlaceState::Waiting if place.room == InletState::SoldOut => {
                buyer.sold_out = true;
                return Ok(());
            }
            PlaceState::Waiting => Duration::from_secs(place.cloudflare.refresh_interval_seconds),
        };
        if Instant::now() >= deadline {
            return Err("the turn has not come in time".into());
        }
        sleep(wait.clamp(LEAST_PAUSE, LONGEST_PAUSE)).await;
    }
    let ticket = ticket(asking, sale, deadline).await?;
    buyer.ticket = true;
    match patiently(deadline, || asking.order(sale, &one, Some(&ticket))).await {
        Ok(_) => buyer.ordered = true,
        Err(error) if error.kind() == Some(&ProblemKind::SoldOut) => buyer.sold_out = true,
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

/// The ticket of a buyer who has been admitted, with the work done that it costs.
async fn ticket(asking: &seckill_client::Buyer, sale: SaleId, deadline: Instant) -> Result<String, String> {
    let mut solution = None;
    loop {
        let error = match patiently(deadline, || asking.ticket(sale, solution.as_deref())).await {
            Ok(view) => return Ok(view.ticket),
            Err(error) => error,
        };
        match error.kind() {
            Some(ProblemKind::ProofRequired) if Instant::now() < deadline => {
                solution = Some(solve_challenge(asking, sale, deadline).await?);
            }
            // Another gateway may have heard of the admission a moment later.
            Some(ProblemKind::NotAdmitted) if Instant::now() < deadline => sleep(LEAST_PAUSE).await,
            _ => return Err(error.to_string()),
        }
    }
}

async fn solve_challenge(
    asking: &seckill_client::Buyer,
    sale: SaleId,
    deadline: Instant,
) -> Result<String, String> {
    let challenge =
        patiently(deadline, || asking.challenge(sale)).await.map_err(|error| error.to_string())?;
    let ChallengeView { algorithm, challenge, maxnumber, salt, signature } = challenge;
    let challenge = Challenge { algorithm, challenge, maxnumber, salt, signature };
    let solved = tokio::task::spawn_blocking(move || solve(&challenge)).await;
    let solution = solved.ok().flatten().ok_or("the challenge has no solution")?;
    Ok(solution.to_payload())
}

/// Buyers a second that were admitted between the first and the last moment at which the inlet moved; `None`: too few moments.
fn measured_rate(rooms: &[RoomView]) -> Option<f64> {
    let moved: Vec<_> = rooms
        .windows(2)
        .filter(|pair| pair[0].state == InletState::Admitting && pair[1].admitted > pair[0].admitted)
        .collect();
    // The first and the last moves are cut off by the draw and by the last buyer.
    let moved = moved.get(1..moved.len().saturating_sub(1)).filter(|moved| moved.len() >= 2)?;
    let (first, last) = (&moved.first()?[0], &moved.last()?[1]);
    let seconds = (last.as_of? - first.as_of?).to_std().ok()?.as_secs_f64();
    Some((last.admitted - first.admitted) as f64 / seconds)
}

fn judge(sale: u64, plan: WaitingPlan, rooms: &[RoomView], ended: &[Buyer]) -> WaitingReport {
    let count =
        |is: &dyn Fn(&&Buyer) -> bool| u32::try_from(ended.iter().filter(is).count()).unwrap_or(u32::MAX);
    let hash = rooms.iter().find_map(|room| room.seed_hash.clone());
    let last = rooms.last();
    let seed = last.and_then(|room| draw::seed(&String::from(room.seed?)));
    let seed_as_committed = seed.is_some_and(|seed| Some(draw::hash(&seed)) == hash);
    let drawn = last.and_then(|room| room.drawn).unwrap_or(0);
    let is_wrong = |buyer: &&Buyer| match (seed, buyer.position) {
        (Some(seed), Some(position)) if buyer.number <= drawn => {
            position != draw::position(&seed, drawn, buyer.number)
        }
        (Some(_), Some(position)) => position != buyer.number,
        _ => false,
    };
    let rate_measured = measured_rate(rooms);
    let mut report = WaitingReport {
        sale,
        buyers: plan.buyers,
        entered: count(&|buyer| buyer.number > 0),
        tickets: count(&|buyer| buyer.ticket),
        orders: count(&|buyer| buyer.ordered),
        sold_out: count(&|buyer| buyer.sold_out),
        without_ticket: count(&|buyer| buyer.without_ticket),
        before_admission: count(&|buyer| buyer.before_admission),
        rate_wanted: f64::from(plan.rate),
        rate_measured,
        seed_as_committed,
        positions_wrong: count(&is_wrong),
        findings: Vec::new(),
    };
    let within = rate_measured.is_some_and(|rate| (rate / report.rate_wanted - 1.0).abs() <= TOLERANCE);
    let failed = ended.iter().filter_map(|buyer| buyer.failure.as_ref()).count();
    let mut finding = |is: bool, text: String| report.findings.extend(is.then_some(text));
    finding(!within, format!("the inlet admitted {rate_measured:?} a second, not {} ± 5 %", plan.rate));
    finding(!seed_as_committed, "the seed was not shown, or is not the one that was committed to".into());
    finding(
        report.positions_wrong > 0,
        format!("{} positions do not follow from the seed", report.positions_wrong),
    );
    finding(report.without_ticket > 0, format!("{} orders came in without a ticket", report.without_ticket));
    finding(report.before_admission > 0, format!("{} tickets came before the turn", report.before_admission));
    if let Some(why) = ended.iter().find_map(|buyer| buyer.failure.as_ref()) {
        finding(true, format!("{failed} buyers came to no end, one of them because of: {why}"));
    }
    report
}

impl std::fmt::Display for WaitingReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let measured =
            self.rate_measured.map_or_else(|| "not known".to_owned(), |rate| format!("{rate:.1}/s"));
        writeln!(f, "sale {}: {} of {} buyers entered", self.sale, self.entered, self.buyers)?;
        writeln!(f, "inlet: {measured}, wanted {:.1}/s", self.rate_wanted)?;
        writeln!(f, "{} tickets, {} orders, {} came too late", self.tickets, self.orders, self.sold_out)?;
        writeln!(
            f,
            "draw: seed as committed {}, wrong positions {}",
            self.seed_as_committed, self.positions_wrong
        )?;
        for finding in &self.findings {
            writeln!(f, "VIOLATED: {finding}")?;
        }
        write!(f, "verdict: {}", if self.holds() { "pass" } else { "violated" })
    }
}
