//! How many orders a second the embedded back end carries from the gate through the queue into the ledger, on the disk
//! that the given folder is on: `cargo run --release -p seckill-embedded --example throughput -- [folder] [orders]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::{Backend, Claim, Delivery, Fault, Mode, NewSale, OrderBatch, OrderId, Sale, UserId};

const LANES: u64 = 4;
const LEDGER_BATCH: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("seckill-throughput"), PathBuf::from);
    let orders: u64 = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let backend = Arc::new(seckill_embedded::open(&dir).await?);
    let sale = Arc::new(open_sale(&backend, u32::try_from(orders)?).await?);

    for batch in [1, 16, 256] {
        let start = Instant::now();
        let share = orders / 3 / LANES / batch * batch;
        let offset = batch * 1_000_000_000;
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let first = offset + lane * share;
                tokio::spawn(accept(Arc::clone(&backend), Arc::clone(&sale), first, share, batch))
            })
            .collect();
        for lane in lanes {
            lane.await??;
        }
        report(&format!("accepted, {batch} a batch"), share * LANES, start);

        let start = Instant::now();
        let drained = drain(&backend).await?;
        report(&format!("committed, {LEDGER_BATCH} a batch"), drained, start);
    }

    let start = Instant::now();
    let totals = backend.ledger.totals(sale.id).await?;
    println!("{:>26}: {:?} for {} orders", "counted", start.elapsed(), totals.orders);
    drop(backend);
    let start = Instant::now();
    seckill_embedded::open(&dir).await?;
    println!("{:>26}: {:?}", "opened again", start.elapsed());
    Ok(())
}

fn report(what: &str, orders: u64, start: Instant) {
    let rate = orders as f64 / start.elapsed().as_secs_f64();
    println!("{what:>26}: {rate:>9.0} orders/s ({orders} in {:?})", start.elapsed());
}

async fn open_sale(backend: &Backend, stock: u32) -> Result<Sale, Fault> {
    let new = NewSale {
        name: "throughput".into(),
        product: None,
        stock,
        price_cents: 100,
        currency: "USD".into(),
        per_user_limit: 1,
        starts_at: seckill_core::now(),
        ends_at: seckill_core::now() + Duration::from_secs(86_400),
        payment_window_ms: None,
        require_ticket: false,
        tickets_from: None,
        ticket_ttl_ms: None,
        proof_of_work: false,
        waiting_room: None,
    };
    let sale = backend.ledger.create_sale(&new, Mode::Queue).await?;
    backend.gate.open(&sale, 1).await?;
    backend.ledger.mark_opened(sale.id, 1).await?;
    Ok(sale)
}

async fn accept(
    backend: Arc<Backend>,
    sale: Arc<Sale>,
    first: u64,
    users: u64,
    batch: u64,
) -> Result<(), Fault> {
    let mut publisher = backend.queue.publisher().await?;
    let mut settled = None;
    for first in (first..first + users).step_by(usize::try_from(batch).unwrap_or(1)) {
        // Users are not in the order of their arrival: spread them over the index.
        let claims: Vec<_> = (first..first + batch)
            .map(|user| Claim {
                order_id: OrderId::generate(),
                user_id: UserId(user.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                quantity: 1,
                accepted_at: seckill_core::now(),
            })
            .collect();
        let reserved = backend.gate.reserve(sale.id, 1, settled.as_slice(), &claims).await?;
        settled = reserved.reservation;
        publisher.publish(&OrderBatch::new(sale.id, 1, claims)).await?;
    }
    backend.gate.settle(sale.id, settled.as_slice()).await
}

async fn drain(backend: &Backend) -> Result<u64, Fault> {
    let mut consumer = backend.queue.consumer(1_000).await?;
    let mut writer = backend.ledger.writer().await?;
    let mut drained = 0;
    while backend.queue.depth().await?.ready_batches > 0 {
        let (mut orders, mut tags) = (Vec::new(), Vec::new());
        while orders.len() < LEDGER_BATCH && backend.queue.depth().await?.ready_batches > 0 {
            let Delivery { batch, tag } = consumer.next().await?;
            orders.extend(batch.into_orders());
            tags.push(tag);
        }
        drained += orders.len() as u64;
        writer.commit(&orders).await?;
        for tag in tags {
            consumer.ack(tag).await?;
        }
    }
    Ok(drained)
}
