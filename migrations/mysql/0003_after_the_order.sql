-- What becomes of orders after their commit, and the events that tell of it. Every statement may be run again after an
-- interruption. Times that only programs read are milliseconds since 1970.

SET @seckill_change = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'sales' AND column_name = 'payment_window_ms'
    ),
    'DO 0',
    'ALTER TABLE sales
        ADD COLUMN payment_window_ms BIGINT UNSIGNED NULL,
        ADD COLUMN ended_orders      BIGINT UNSIGNED NOT NULL DEFAULT 0,
        ADD COLUMN ended_units       BIGINT UNSIGNED NOT NULL DEFAULT 0,
        ADD COLUMN returned_orders   BIGINT UNSIGNED NOT NULL DEFAULT 0,
        ADD COLUMN returned_units    BIGINT UNSIGNED NOT NULL DEFAULT 0'
);
PREPARE seckill_change FROM @seckill_change;
EXECUTE seckill_change;
DEALLOCATE PREPARE seckill_change;

-- At the end of the table, so that both servers add them without copying it.
SET @seckill_change = IF(
    EXISTS (
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = DATABASE() AND table_name = 'orders' AND column_name = 'sequence'
    ),
    'DO 0',
    'ALTER TABLE orders
        ADD COLUMN sequence      INT UNSIGNED NOT NULL DEFAULT 1,
        ADD COLUMN cancel_reason VARCHAR(16)  NULL'
);
PREPARE seckill_change FROM @seckill_change;
EXECUTE seckill_change;
DEALLOCATE PREPARE seckill_change;

-- Orders that wait to be paid, of sales that have a payment window. Apart from the orders, so that a sale without one pays
-- nothing for it.
CREATE TABLE IF NOT EXISTS unpaid (
    order_id BINARY(16)      NOT NULL,
    pay_by   BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (order_id),
    KEY unpaid_by_time (pay_by, order_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

-- Events that were written in the transaction of the state that they tell of.
CREATE TABLE IF NOT EXISTS outbox (
    -- In the order in which they were written.
    number          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    id              BINARY(16)      NOT NULL,
    kind            VARCHAR(64)     NOT NULL,
    subject         VARCHAR(128)    NOT NULL,
    -- The CloudEvent in JSON.
    body            MEDIUMTEXT      NOT NULL,
    state           VARCHAR(8)      NOT NULL DEFAULT 'pending',
    attempts        INT UNSIGNED    NOT NULL DEFAULT 0,
    next_attempt_at BIGINT UNSIGNED NOT NULL,
    created_at      BIGINT UNSIGNED NOT NULL,
    error           VARCHAR(500)    NULL,
    PRIMARY KEY (number),
    UNIQUE KEY one_event (id),
    KEY outbox_by_state (state, next_attempt_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

-- Which events a consumer has taken in. The row is written in the transaction of the event's effect, so the key makes the
-- effect happen once.
CREATE TABLE IF NOT EXISTS inbox (
    consumer VARCHAR(40) NOT NULL,
    event_id BINARY(16)  NOT NULL,
    PRIMARY KEY (consumer, event_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

-- The state of the subscribers that are part of seckill.
CREATE TABLE IF NOT EXISTS points (
    user_id BIGINT UNSIGNED NOT NULL,
    points  BIGINT          NOT NULL,
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS notices (
    number   BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    order_id BINARY(16)      NOT NULL,
    user_id  BIGINT UNSIGNED NOT NULL,
    kind     VARCHAR(64)     NOT NULL,
    sequence INT UNSIGNED    NOT NULL,
    at       BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (number),
    KEY notices_of_order (order_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS funnel (
    sale_id      BIGINT UNSIGNED NOT NULL,
    stage        VARCHAR(64)     NOT NULL,
    orders       BIGINT UNSIGNED NOT NULL,
    units        BIGINT UNSIGNED NOT NULL,
    amount_cents BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (sale_id, stage)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;
