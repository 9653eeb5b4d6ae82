//! The two ends of `scripts/instructions.sh`: `serve FOLDER` is what is counted, `order ADDRESS SALE FIRST COUNT STATUS` sends it requests,
//! and `token COUNT` and `message COUNT` do one step of an order so many times.

use std::hint::black_box;
use std::path::Path;

use seckill_bench::{Crowd, serve, token, verifier};
use seckill_core::{LedgerId, Message, SaleId};
use seckill_testkit::fixtures;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Orders in a message.
const ORDERS: u64 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", folder] => serve(Path::new(folder)).await,
        ["order", gateway, sale, first, orders, status] => {
            let mut crowd = Crowd::new(gateway.parse()?).await?;
            let orders: u64 = orders.parse()?;
            let counted = crowd.order(sale.parse()?, first.parse()?, orders, status).await?;
            if counted != orders {
                return Err(format!("{counted} of {orders} answers had the status {status}").into());
            }
        }
        ["token", count] => {
            let (verifier, token) = (verifier(), token(7));
            for _ in 0..count.parse()? {
                black_box(verifier.user(black_box(&token))?);
            }
        }
        ["message", count] => {
            let batch = fixtures::batch(SaleId(1), 0..ORDERS);
            for _ in 0..count.parse()? {
                let message = Message::write(black_box(&batch), None::<LedgerId>);
                black_box(Message::read(message.as_bytes()).map_err(|why| format!("{why:?}"))?);
            }
        }
        _ => return Err("see scripts/instructions.sh".into()),
    }
    Ok(())
}
