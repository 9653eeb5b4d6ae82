//! The queue's file: batches of newer versions, of other ledgers, and of the oldest version.

use std::path::Path;
use std::time::Duration;

use seckill_core::{LedgerId, Message, OrderBatch, SaleId};
use seckill_testkit::eventually;

use crate::harness::*;

/// How long to look out for something that must not happen.
const NEVER: Duration = Duration::from_millis(200);

fn batch(user: u64) -> OrderBatch {
    OrderBatch::new(SaleId(1), EPOCH, vec![claim(user)])
}

/// Puts a batch into the file as another program would.
async fn insert(dir: &Path, body: &str) {
    let mut stranger = connect(dir, "queue.db").await;
    let insert = sqlx::query("INSERT INTO batches (orders, body) VALUES (1, ?)").bind(body);
    insert.execute(&mut stranger).await.expect("the stranger may write");
}

#[tokio::test]
async fn a_newer_batch_stays_in_the_file_and_is_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    insert(dir.path(), r#"{"version":4,"orders":"in another form"}"#).await;
    for _ in 0..2 {
        let backend = open(dir.path()).await;
        let sent = batch(1);
        backend.queue.publisher().await.unwrap().publish(&sent).await.unwrap();
        let mut consumer = backend.queue.consumer(2).await.unwrap();
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.batch, sent);
        consumer.ack(delivery.tag).await.unwrap();
        assert!(tokio::time::timeout(NEVER, consumer.next()).await.is_err());
        let depth = backend.queue.depth().await.unwrap();
        assert_eq!((depth.ready_batches, depth.orders), (0, Some(1)));
        let depth = backend.queue.parked_depth().await.unwrap();
        assert_eq!((depth.parked, depth.newer), (0, 1));
        // A rebuild is left to the newer program.
        assert_eq!(backend.queue.return_newer().await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_batch_of_another_ledger_is_parked_and_one_without_a_ledger_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let theirs = LedgerId(uuid::Uuid::now_v7());
    let (foreign, old) = (batch(1), batch(2));
    insert(dir.path(), &Message::write(&foreign, Some(theirs))).await;
    insert(dir.path(), &serde_json::to_string(&old).unwrap()).await;
    let backend = open(dir.path()).await;
    let mut consumer = backend.queue.consumer(2).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, old);
    let parked = eventually(DEADLINE, async || {
        let parked = backend.queue.parked(10).await.unwrap();
        if parked.len() == 1 { Ok(parked) } else { Err(parked) }
    })
    .await;
    assert_eq!(parked[0].batch.as_ref(), Some(&foreign));
    assert!(parked[0].reason.contains(&theirs.to_string()), "{}", parked[0].reason);
}

#[tokio::test]
async fn a_queue_beside_another_ledger_gives_it_none_of_the_orders() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sent = batch(1);
    backend.queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    let before = backend.ledger.id().await.unwrap();
    drop(backend);
    // Of the oldest version: it names no ledger.
    insert(dir.path(), &serde_json::to_string(&batch(2)).unwrap()).await;
    eventually(DEADLINE, async || seckill_embedded::open(dir.path()).await.map(drop)).await;
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(name));
    }

    let backend = open(dir.path()).await;
    let after = backend.ledger.id().await.unwrap();
    assert_ne!(before, after);
    let depth = backend.queue.depth().await.unwrap();
    assert_eq!((depth.ready_batches, depth.orders), (0, Some(0)));
    let parked = backend.queue.parked(10).await.unwrap();
    assert_eq!(parked.len(), 2);
    for message in &parked {
        assert!(message.reason.contains(&before.to_string()), "{}", message.reason);
    }
    // Moved back, a batch that names the other ledger is parked again.
    assert!(backend.queue.redrive(&parked[0].id).await.unwrap());
    let mut consumer = backend.queue.consumer(2).await.unwrap();
    assert!(tokio::time::timeout(NEVER, consumer.next()).await.is_err());
    eventually(DEADLINE, async || match backend.queue.parked_depth().await.unwrap().parked {
        2 => Ok(()),
        other => Err(other),
    })
    .await;
}
