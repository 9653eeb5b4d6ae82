//! Gateways that remember in memory that everything is sold, against gateways that ask the gate, for many buyers in one call.

use std::collections::HashMap;

use async_trait::async_trait;
use seckill_core::{Claim, Decision, OrderId, RETURN_HOLD, Release, Sale, UserId, now};
use tokio::sync::mpsc;

use crate::experiment::place::EPOCH;
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const SALE: u64 = 2;
const STOCK: usize = 100;
/// Buyers of the rush; half of them at each gateway.
const RUSH: usize = 4_000;
/// Orders that are rejected afterwards: their units return.
const RETURNED: usize = 30;
/// Buyers who come later.
const LATER: usize = 40;
/// Buyers that a gateway puts to the gate in one call, at the most.
const BATCH: usize = 100;
const GATEWAYS: usize = 2;

const ABOUT: About = About {
    name: "local-sold-out-cache",
    question: text(
        "Everything is sold. May each gateway remember that in memory, and spare the gate the calls?",
        "卖完之后，网关可以在本地内存里记一个售罄标记，少访问库存闸门吗？",
    ),
    prediction: text(
        "Units come back through one gateway. The other one does not hear of it and refuses buyers although units are there.",
        "库存通过其中一个网关还回来，另一个网关不知道，明明有货却继续拒绝买家。",
    ),
    without: text(
        "Each gateway has a flag \"sold out\", and clears it when units return through itself",
        "每个网关有一个本地售罄标记，库存通过自己归还时才清除",
    ),
    with: text(
        "The gate decides about every buyer, a batch of them in one call",
        "每位买家都由库存闸门裁决，一次调用裁决一批",
    ),
    look_at: text(
        "Units that are left although buyers were refused, and what asking costs: calls for a thousand buyers",
        "看有买家被拒绝时剩下的库存，以及每千名买家调用闸门的次数",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/gateway/src/intake.rs", "self.backend.gate.reserve(self.sale"),
};

pub(super) struct LocalSoldOutCache;

#[async_trait]
impl Experiment for LocalSoldOutCache {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        let sale = place.sale(SALE, u32::try_from(STOCK).unwrap_or(u32::MAX)).await?;
        let new = || Gateway { place, sale: &sale, side, sold_out: false, orders: HashMap::new(), calls: 0 };
        let mut gateways: [Gateway; GATEWAYS] = [new(), new()];

        let rush = 1..=RUSH as u64;
        let rush_refused =
            arrive(&mut gateways, rush.map(|buyer| (buyer as usize % GATEWAYS, buyer))).await?;

        // Some orders are rejected, and whichever gateway hears of it gives their units back.
        let mut all: Vec<(UserId, OrderId)> =
            gateways.iter().flat_map(|one| one.orders.iter().map(|(user, order)| (*user, *order))).collect();
        all.sort_unstable();
        let rejected: Vec<(UserId, OrderId)> =
            dice.some(RETURNED, STOCK).into_iter().map(|number| all[number]).collect();
        let hears = dice.below(GATEWAYS as u64) as usize;
        gateways[hears].give_back(&rejected).await?;
        for gateway in &mut gateways {
            gateway.orders.retain(|user, _| !rejected.iter().any(|(rejected, _)| rejected == user));
        }

        // The half of those who come later come to the other gateway.
        let elsewhere = dice.some(LATER / GATEWAYS, LATER);
        let later = (0..LATER).map(|number| {
            let there = elsewhere.binary_search(&number).is_ok();
            (if there { 1 - hears } else { hears }, (RUSH + 1 + number) as u64)
        });
        let refused = arrive(&mut gateways, later).await?;

        let left = place.gate().level(sale.id).await?.map_or(0, |level| u64::from(level.remaining));
        let orders: u64 = gateways.iter().map(|gateway| gateway.orders.len() as u64).sum();
        let calls: usize = gateways.iter().map(|gateway| gateway.calls).sum();
        let thousands = (RUSH + LATER) as f64 / 1_000.0;
        Ok(Findings::default()
            .exactly(text("orders at the end", "最后的订单"), STOCK as u64, orders)
            .exactly(text("units left, and buyers refused", "有买家被拒绝时剩下的库存"), 0, left.min(refused))
            .exactly(text("orders above the stock", "超过库存的订单"), 0, orders.saturating_sub(STOCK as u64))
            .measure(text("buyers refused in the rush", "抢购时被拒绝的买家"), rush_refused as f64, "")
            .measure(text("later buyers refused", "后来被拒绝的买家"), refused as f64, "")
            .measure(
                text("calls of the gate for 1,000 buyers", "每千名买家调用闸门的次数"),
                calls as f64 / thousands,
                "",
            ))
    }
}

/// One of the gateways.
struct Gateway<'a> {
    place: &'a Place,
    sale: &'a Sale,
    side: Side,
    /// What it remembers. Only used without the safeguard.
    sold_out: bool,
    /// Orders that it has got from the gate.
    orders: HashMap<UserId, OrderId>,
    /// Calls of the gate.
    calls: usize,
}

impl Gateway<'_> {
    /// Takes the buyers who wait, a batch of those that have gathered at a time; how many were refused.
    async fn work(&mut self, mut waiting: mpsc::UnboundedReceiver<u64>) -> Result<u64, Trouble> {
        let (mut refused, mut buyers) = (0, Vec::with_capacity(BATCH));
        while waiting.recv_many(&mut buyers, BATCH).await > 0 {
            let claims: Vec<Claim> = buyers.drain(..).map(claim).collect();
            refused += match self.side {
                Side::Without if self.sold_out => claims.len() as u64,
                Side::Without | Side::With => self.ask(&claims).await?,
            };
        }
        Ok(refused)
    }

    async fn ask(&mut self, claims: &[Claim]) -> Result<u64, Trouble> {
        self.calls += 1;
        let reserved = self.place.gate().reserve(self.sale.id, EPOCH, &[], claims).await?;
        let mut refused = 0;
        for (claim, decision) in claims.iter().zip(reserved.decisions) {
            match decision {
                Decision::Reserved => {
                    self.orders.insert(claim.user_id, claim.order_id);
                }
                Decision::SoldOut { .. } => {
                    self.sold_out = true;
                    refused += 1;
                }
                _ => refused += 1,
            }
        }
        Ok(refused)
    }

    /// Gives the units of rejected orders back to the gate.
    async fn give_back(&mut self, rejected: &[(UserId, OrderId)]) -> Result<(), Trouble> {
        let release =
            |&(user_id, order_id): &(UserId, OrderId)| Release { order_id, user_id, returns_units: true };
        let releases: Vec<Release> = rejected.iter().map(release).collect();
        self.place.gate().release(self.sale.id, &releases).await?;
        // The gate sells them after a moment, see there.
        tokio::time::sleep(RETURN_HOLD).await;
        self.sold_out = false;
        Ok(())
    }
}

fn claim(buyer: u64) -> Claim {
    Claim { order_id: OrderId::generate(), user_id: UserId(buyer), quantity: 1, accepted_at: now() }
}

/// Buyers come, each to a gateway, and all gateways work at once; how many were refused.
async fn arrive(
    gateways: &mut [Gateway<'_>],
    buyers: impl Iterator<Item = (usize, u64)>,
) -> Result<u64, Trouble> {
    let (doors, waiting): (Vec<_>, Vec<_>) = gateways.iter().map(|_| mpsc::unbounded_channel()).unzip();
    for (gateway, buyer) in buyers {
        // The other end is there until the work has begun, below.
        let _ = doors[gateway].send(buyer);
    }
    drop(doors);
    let works = gateways.iter_mut().zip(waiting).map(|(gateway, waiting)| gateway.work(waiting));
    Ok(futures_util::future::try_join_all(works).await?.into_iter().sum())
}
