-- What operators change about a sale, and the idempotency keys under which sales are created. Every statement may be run again
-- after an interruption.

-- At the end of the table, so that both servers add the columns without copying it. One ALTER adds all columns or none.
SET @seckill_change = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'sales' AND column_name = 'revision'
    ),
    'DO 0',
    'ALTER TABLE sales
        ADD COLUMN paused       TINYINT UNSIGNED NOT NULL DEFAULT 0,
        ADD COLUMN revision     INT UNSIGNED     NOT NULL DEFAULT 0,
        ADD COLUMN request_key  VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL,
        ADD COLUMN request_hash BINARY(32)       NULL,
        ADD UNIQUE KEY one_sale_a_key (request_key)'
);
PREPARE seckill_change FROM @seckill_change;
EXECUTE seckill_change;
DEALLOCATE PREPARE seckill_change;
