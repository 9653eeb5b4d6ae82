//! The scenario `waiting-room`: buyers enter before the start, wait, fetch a ticket in their turn, solving the proof of work where one
//! is asked for, and order. What is judged: the inlet keeps its rate, the draw follows from the seed that was committed to, and
//! nobody orders without having been admitted.

pub mod draw;

use std::time::{Duration, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use seckill_token::challenge::{Challenge, solve};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::plan::tokens::Tokens;
use crate::send::caller::{Caller, parsed, text};
use crate::send::client::{Answer, Client, Clients};
use crate::send::template::Template;

/// The most by which the inlet may leave its rate.
const TOLERANCE: f64 = 0.05;
/// The ticket of an order.
const TICKET: HeaderName = HeaderName::from_static("seckill-ticket");
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

/// The shared document, as far as it is needed.
#[derive(Debug, Clone, Deserialize)]
struct Room {
    state: String,
    seed_hash: Option<String>,
    seed: Option<String>,
    drawn: Option<u64>,
    admitted: u64,
    as_of: Option<String>,
}

impl Room {
    fn at(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339_weak(self.as_of.as_deref()?).ok()
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
    let caller = Caller { target: clients.target().clone() };
    let mut client = clients.another();
    let sale = caller.make_sale(&mut client, admin, plan).await?;
    let begun = Instant::now();
    let mut buyers = JoinSet::new();
    for buyer in 0..plan.buyers {
        let (caller, client, token) = (caller.clone(), clients.another(), tokens.header(buyer));
        buyers.spawn(async move { caller.buy(client, sale, token, begun + plan.deadline).await });
    }
    let mut rooms: Vec<Room> = Vec::new();
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
            _ = looks.tick() => rooms.push(caller.room(&mut client, sale).await?),
        }
    }
    rooms.push(caller.room(&mut client, sale).await?);
    Ok(judge(sale, plan, &rooms, &ended))
}

fn refused(reason: String) -> Error {
    Error::Shop { doing: "play a waiting room", reason }
}

impl Caller {
    async fn make_sale(
        &self,
        client: &mut Client,
        admin: &HeaderValue,
        plan: WaitingPlan,
    ) -> Result<u64, Error> {
        let at = |after: Duration| humantime::format_rfc3339_millis(SystemTime::now() + after).to_string();
        let body = json!({
            "name": "Load test", "stock": plan.stock, "require_ticket": true, "proof_of_work": plan.proof_of_work,
            "starts_at": at(plan.starts_in), "ends_at": at(plan.starts_in + plan.deadline + Duration::from_secs(60)),
            "waiting_room": {"opens_before_ms": 86_400_000, "rate_per_second": plan.rate},
        });
        let request = Template::post(&self.target, body.to_string());
        let answer = client.send(request.request(self.uri("/api/v1/sales"), admin.clone())).await;
        let answer = answer.map_err(|failure| refused(failure.to_string()))?;
        match (answer.status, parsed(&answer)["id"].as_u64()) {
            (201, Some(id)) => Ok(id),
            (status, _) => Err(refused(format!("the sale is not made: {status} {}", text(&answer)))),
        }
    }

    async fn room(&self, client: &mut Client, sale: u64) -> Result<Room, Error> {
        let uri = self.uri(&format!("/api/v1/sales/{sale}/waiting-room"));
        let answer = client.send(Template::get(&self.target).anonymous(uri)).await;
        let answer = answer.map_err(|failure| refused(failure.to_string()))?;
        serde_json::from_slice(&answer.body).map_err(|error| refused(format!("{error}: {}", text(&answer))))
    }

    async fn ask(
        &self,
        client: &mut Client,
        template: Template,
        path: &str,
        token: &HeaderValue,
        ticket: Option<&str>,
    ) -> Result<Answer, String> {
        let ticket = ticket.map(HeaderValue::try_from).transpose().map_err(|error| error.to_string())?;
        self.send(client, &template, path, token, ticket.map(|ticket| (TICKET, ticket))).await
    }

    async fn buy(&self, mut client: Client, sale: u64, token: HeaderValue, deadline: Instant) -> Buyer {
        let mut buyer = Buyer::default();
        if let Err(failure) = self.try_buy(&mut client, sale, &token, deadline, &mut buyer).await {
            buyer.failure = Some(failure);
        }
        buyer
    }

    async fn try_buy(
        &self,
        client: &mut Client,
        sale: u64,
        token: &HeaderValue,
        deadline: Instant,
        buyer: &mut Buyer,
    ) -> Result<(), String> {
        let path = |rest: &str| format!("/api/v1/sales/{sale}{rest}");
        let post = |body: &str| Template::post(&self.target, body.to_owned());
        let get = || Template::get(&self.target);
        let entered = self.ask(client, post("{}"), &path("/waiting-room"), token, None).await?;
        buyer.number = parsed(&entered)["number"].as_u64().ok_or_else(|| text(&entered))?;
        // What a script does that does not wait: neither may work.
        let early = self.ask(client, post("{}"), &path("/ticket"), token, None).await?;
        buyer.before_admission = early.status == 200 && !self.is_admitted(client, sale, token).await?;
        let bare = self.ask(client, post("{}"), &path("/orders"), token, None).await?;
        buyer.without_ticket = matches!(bare.status, 200 | 202);
        loop {
            let me = self.ask(client, get(), &path("/waiting-room/me"), token, None).await?;
            let json = parsed(&me);
            buyer.position = json["position"].as_u64();
            match json["state"].as_str() {
                Some("admitted") => break,
                Some("waiting") => {}
                _ if matches!(me.status, 429 | 503) => {}
                _ => return Err(format!("the turn has passed: {}", text(&me))),
            }
            if json["room"] == "sold_out" {
                buyer.sold_out = true;
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err("the turn has not come in time".into());
            }
            let refresh = json["cfWaitingRoom"]["refreshIntervalSeconds"].as_u64();
            sleep(Duration::from_secs(refresh.or(me.retry_after).unwrap_or(1).clamp(1, 5))).await;
        }
        let mut body = "{}".to_owned();
        let ticket = loop {
            let answer = self.ask(client, post(&body), &path("/ticket"), token, None).await?;
            let json = parsed(&answer);
            match (json["ticket"].as_str(), json["type"].as_str()) {
                (Some(ticket), _) => break ticket.to_owned(),
                (_, Some("/problems/proof-required")) if Instant::now() < deadline => {
                    body = self.solution(client, &path("/challenge"), token).await?;
                }
                // Another gateway may have heard of the admission a moment later.
                (_, Some("/problems/not-admitted")) if Instant::now() < deadline => {
                    sleep(Duration::from_secs(1)).await;
                }
                _ => return Err(text(&answer)),
            }
        };
        buyer.ticket = true;
        let ordered = self.ask(client, post("{}"), &path("/orders"), token, Some(&ticket)).await?;
        buyer.ordered = matches!(ordered.status, 200 | 202);
        buyer.sold_out = parsed(&ordered)["type"] == "/problems/sold-out";
        if buyer.ordered || buyer.sold_out { Ok(()) } else { Err(text(&ordered)) }
    }

    async fn is_admitted(&self, client: &mut Client, sale: u64, token: &HeaderValue) -> Result<bool, String> {
        let path = format!("/api/v1/sales/{sale}/waiting-room/me");
        let me = self.ask(client, Template::get(&self.target), &path, token, None).await?;
        Ok(parsed(&me)["state"] == "admitted")
    }

    /// The body of a request for a ticket, with the work done.
    async fn solution(&self, client: &mut Client, path: &str, token: &HeaderValue) -> Result<String, String> {
        let answer = self.ask(client, Template::get(&self.target), path, token, None).await?;
        let challenge: Challenge = serde_json::from_slice(&answer.body).map_err(|_| text(&answer))?;
        let solved = tokio::task::spawn_blocking(move || solve(&challenge)).await;
        let solution = solved.ok().flatten().ok_or("the challenge has no solution")?;
        Ok(json!({"altcha": solution.to_payload()}).to_string())
    }
}

/// Buyers a second that were admitted between the first and the last moment at which the inlet moved; `None`: too few moments.
fn measured_rate(rooms: &[Room]) -> Option<f64> {
    let moved: Vec<_> = rooms
        .windows(2)
        .filter(|pair| pair[0].state == "admitting" && pair[1].admitted > pair[0].admitted)
        .collect();
    // The first and the last moves are cut off by the draw and by the last buyer.
    let moved = moved.get(1..moved.len().saturating_sub(1)).filter(|moved| moved.len() >= 2)?;
    let (first, last) = (&moved.first()?[0], &moved.last()?[1]);
    let seconds = last.at()?.duration_since(first.at()?).ok()?.as_secs_f64();
    Some((last.admitted - first.admitted) as f64 / seconds)
}

fn judge(sale: u64, plan: WaitingPlan, rooms: &[Room], ended: &[Buyer]) -> WaitingReport {
    let count =
        |is: &dyn Fn(&&Buyer) -> bool| u32::try_from(ended.iter().filter(is).count()).unwrap_or(u32::MAX);
    let hash = rooms.iter().find_map(|room| room.seed_hash.clone());
    let last = rooms.last();
    let seed = last.and_then(|room| draw::seed(room.seed.as_deref()?));
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
