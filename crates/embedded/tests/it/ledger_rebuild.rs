//! The ledger's file as older versions wrote it, and orders that the file refuses.

use seckill_core::{Fate, Fault, Order, SaleId, SaleState};

use crate::harness::*;

#[tokio::test]
async fn a_file_of_the_second_version_is_migrated_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (sale, id, committed) = {
        let backend = open(dir.path()).await;
        let sale = opened_sale(&backend, 10).await;
        let order = Order { sale_id: sale.id, epoch: EPOCH, claim: claim(1) };
        let early = Order { sale_id: SaleId(sale.id.0 + 1), epoch: EPOCH, claim: claim(2) };
        backend.ledger.writer().await.unwrap().commit(&[order.clone(), early]).await.unwrap();
        let next = backend.ledger.create_sale(&new_sale(5, 1), seckill_core::Mode::Queue).await.unwrap();
        assert_eq!(next.rejected_orders, 1);
        (sale, backend.ledger.id().await.unwrap(), order)
    };
    let mut stranger = connect(dir.path(), "ledger.db").await;
    const BACK: &str = "\
        DROP TABLE ledger_identity; DROP INDEX sales_by_state; ALTER TABLE sales DROP COLUMN state; ALTER TABLE sales DROP COLUMN open_epoch; \
        ALTER TABLE sales DROP COLUMN rebuild_owner; ALTER TABLE sales DROP COLUMN rebuild_lease; \
        ALTER TABLE sales DROP COLUMN rebuild_step; ALTER TABLE sales DROP COLUMN rebuild_done; \
        ALTER TABLE sales DROP COLUMN rebuild_total; ALTER TABLE sales DROP COLUMN rebuild_since; \
        UPDATE sales SET rejected_orders = 0; DELETE FROM _sqlx_migrations WHERE version = 3";
    sqlx::raw_sql(BEFORE_PAYMENTS).execute(&mut stranger).await.unwrap();
    sqlx::raw_sql(BACK).execute(&mut stranger).await.unwrap();
    drop(stranger);

    let backend = open(dir.path()).await;
    assert_ne!(backend.ledger.id().await.unwrap(), id, "made by the migration");
    let migrated = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((migrated.state, migrated.rebuild, migrated.epoch), (SaleState::Open, None, EPOCH));
    assert_eq!((migrated.sold, migrated.orders), (1, 1));
    let next = backend.ledger.sale(SaleId(sale.id.0 + 1)).await.unwrap().unwrap();
    assert_eq!(next.rejected_orders, 1, "the rejection that came before its sale is counted");
    let mut writer = backend.ledger.writer().await.unwrap();
    assert_eq!(writer.commit(&[committed]).await.unwrap(), [Fate::AlreadyCommitted]);
}

#[tokio::test]
async fn an_order_that_the_file_refuses_for_its_values_is_corrupt_and_no_outage() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = opened_sale(&backend, 10).await;
    let mut stranger = connect(dir.path(), "ledger.db").await;
    const REFUSE: &str = "CREATE TRIGGER not_13 BEFORE INSERT ON orders WHEN NEW.user_id = 13 \
                          BEGIN SELECT RAISE(ABORT, 'no user 13'); END";
    sqlx::raw_sql(REFUSE).execute(&mut stranger).await.unwrap();
    let mut writer = backend.ledger.writer().await.unwrap();
    let order = |user| Order { sale_id: sale.id, epoch: EPOCH, claim: claim(user) };
    let fault = writer.commit(&[order(1), order(13)]).await.unwrap_err();
    assert!(matches!(fault, Fault::Corrupt { .. }) && fault.to_string().contains("no user 13"), "{fault}");
    assert_eq!(writer.commit(&[order(1)]).await.unwrap(), [Fate::Committed]);
}
