-- Whose data this is, and what a sale's gate can be used for. Every statement may be run again after an interruption.

CREATE TABLE IF NOT EXISTS ledger_identity (
    -- There is one row.
    only_row TINYINT UNSIGNED NOT NULL,
    -- A UUID, made here and kept in backups.
    id       BINARY(16)       NOT NULL,
    PRIMARY KEY (only_row),
    CONSTRAINT one_ledger_id CHECK (only_row = 1)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

INSERT INTO ledger_identity (only_row, id)
SELECT 1, UNHEX(REPLACE(UUID(), '-', '')) FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM ledger_identity);

-- MySQL has no ADD COLUMN IF NOT EXISTS. One ALTER adds all columns or none.
SET @seckill_change = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'sales' AND column_name = 'state'
    ),
    'DO 0',
    'ALTER TABLE sales
        ADD COLUMN state          VARCHAR(16)     NOT NULL DEFAULT ''open'',
        ADD COLUMN open_epoch     INT UNSIGNED    NOT NULL DEFAULT 0,
        ADD COLUMN rebuild_owner  BINARY(16)      NULL,
        ADD COLUMN rebuild_lease  DATETIME(3)     NULL,
        ADD COLUMN rebuild_step   VARCHAR(16)     NULL,
        ADD COLUMN rebuild_done   BIGINT UNSIGNED NULL,
        ADD COLUMN rebuild_total  BIGINT UNSIGNED NULL,
        ADD COLUMN rebuild_since  DATETIME(3)     NULL,
        ADD KEY sales_by_state (state)'
);
PREPARE seckill_change FROM @seckill_change;
EXECUTE seckill_change;
DEALLOCATE PREPARE seckill_change;

-- Orders that were rejected before their sale existed were not counted.
UPDATE sales
SET rejected_orders = (SELECT COUNT(*) FROM rejections WHERE rejections.sale_id = sales.id)
WHERE rejected_orders < (SELECT COUNT(*) FROM rejections WHERE rejections.sale_id = sales.id);
