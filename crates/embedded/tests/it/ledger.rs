//! The ledger's file: how a commit that is given up or fails leaves it.

use std::time::Duration;

use seckill_core::{Fate, Fault, Order, RejectReason, SaleId, Verdict};

use crate::harness::*;

#[tokio::test]
async fn a_commit_that_is_given_up_leaves_no_transaction_open() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = opened_sale(&backend, 100_000).await;
    let mut writer = backend.ledger.writer().await.unwrap();
    let mut given_up = Vec::new();
    for round in 0..40 {
        let orders: Vec<_> = (0..200).map(|n| order(sale.id, round * 200 + n)).collect();
        let patience = Duration::from_micros(round * 150);
        if tokio::time::timeout(patience, writer.commit(&orders)).await.is_err() {
            given_up.push(orders);
        }
    }
    assert!(!given_up.is_empty(), "some were too slow");
    for orders in given_up {
        let fates = writer.commit(&orders).await.unwrap();
        assert!(fates.iter().all(|fate| *fate == fates[0]), "all or none of it had happened: {fates:?}");
        assert!(matches!(fates[0], Fate::Committed | Fate::AlreadyCommitted));
    }
    let totals = backend.ledger.totals(sale.id).await.unwrap();
    let sale = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((totals.orders, sale.orders, sale.sold), (8_000, 8_000, 8_000));
}

#[tokio::test]
async fn a_commit_that_fails_has_changed_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = opened_sale(&backend, 10).await;
    let mut writer = backend.ledger.writer().await.unwrap();
    let orders = [order(sale.id, 1)];

    let mut stranger = connect(dir.path(), "ledger.db").await;
    sqlx::query("ALTER TABLE orders RENAME TO hidden").execute(&mut stranger).await.unwrap();
    let failed = writer.commit(&orders).await.unwrap_err();
    assert!(matches!(failed, Fault::Unavailable { .. }), "{failed}");
    sqlx::query("ALTER TABLE hidden RENAME TO orders").execute(&mut stranger).await.unwrap();

    assert_eq!(writer.commit(&orders).await.unwrap(), [Fate::Committed]);
    assert_eq!(writer.commit(&orders).await.unwrap(), [Fate::AlreadyCommitted]);
    let row = backend.ledger.order(orders[0].claim.order_id).await.unwrap().unwrap();
    assert_eq!((row.sale_id, row.claim, row.amount_cents), (sale.id, orders[0].claim, sale.price_cents));
}

#[tokio::test]
async fn an_order_rejected_before_its_sale_existed_stays_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut writer = backend.ledger.writer().await.unwrap();
    let early = Order { sale_id: SaleId(1), epoch: EPOCH, claim: claim(u64::MAX) };
    let fates = writer.commit(std::slice::from_ref(&early)).await.unwrap();
    assert_eq!(fates, [Fate::Rejected(RejectReason::UnknownSale)]);

    let sale = opened_sale(&backend, 10).await;
    assert_eq!(sale.id, early.sale_id);
    let fates = writer.commit(std::slice::from_ref(&early)).await.unwrap();
    assert_eq!(fates, [Fate::AlreadyRejected(RejectReason::UnknownSale)]);
    let mine = backend.ledger.orders_of(early.claim.user_id, sale.id).await.unwrap();
    assert_eq!(
        mine.iter().map(|row| (row.sale_id, row.claim, row.rejected)).collect::<Vec<_>>(),
        [(early.sale_id, early.claim, Some(RejectReason::UnknownSale))]
    );
}

#[tokio::test]
async fn a_batch_longer_than_one_statement_is_still_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = opened_sale(&backend, 1_999).await;
    let mut writer = backend.ledger.writer().await.unwrap();
    let orders: Vec<_> = (0..2_000).map(|user| order(sale.id, user)).collect();
    let fates = writer.commit(&orders).await.unwrap();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Committed).count(), 1_999);
    assert_eq!(fates[1_999], Fate::Rejected(RejectReason::SoldOut));
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.oversold, report.duplicates, report.sold), (0, 0, 1_999));
    // The orders never went through the gate, and the audit says so.
    assert_eq!(report.verdict, Verdict::Violated);
}
