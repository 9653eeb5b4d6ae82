-- Who may order in a sale. Every statement may be run again after an interruption.

SET @seckill_change = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'sales' AND column_name = 'admission'
    ),
    'DO 0',
    -- JSON; NULL: everyone may order.
    'ALTER TABLE sales ADD COLUMN admission TEXT NULL'
);
PREPARE seckill_change FROM @seckill_change;
EXECUTE seckill_change;
DEALLOCATE PREPARE seckill_change;
