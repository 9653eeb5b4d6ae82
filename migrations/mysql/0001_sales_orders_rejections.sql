-- Where orders become true. Runs unchanged on MySQL 8.0 and later and on MariaDB 10.6 and later. Times are UTC.

CREATE TABLE IF NOT EXISTS sales (
    id              BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    name            VARCHAR(200)    NOT NULL,
    product         VARCHAR(200)    NOT NULL,
    stock           INT UNSIGNED    NOT NULL,
    -- Running totals of the rows below, moved in the transaction that writes those rows.
    sold            INT UNSIGNED    NOT NULL DEFAULT 0,
    orders          BIGINT UNSIGNED NOT NULL DEFAULT 0,
    rejected_orders BIGINT UNSIGNED NOT NULL DEFAULT 0,
    price_cents     BIGINT UNSIGNED NOT NULL,
    currency        CHAR(3)         NOT NULL,
    per_user_limit  INT UNSIGNED    NOT NULL,
    starts_at       DATETIME(3)     NOT NULL,
    ends_at         DATETIME(3)     NOT NULL,
    epoch           INT UNSIGNED    NOT NULL DEFAULT 0,
    created_at      DATETIME(3)     NOT NULL,
    PRIMARY KEY (id),
    -- The second line behind the conditional update: whatever a program does, no sale is ever oversold.
    CONSTRAINT sold_within_stock CHECK (sold <= stock)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS orders (
    -- A UUIDv7: it grows with time, so new rows land at the end of the primary key.
    id           BINARY(16)       NOT NULL,
    sale_id      BIGINT UNSIGNED  NOT NULL,
    user_id      BIGINT UNSIGNED  NOT NULL,
    quantity     INT UNSIGNED     NOT NULL,
    amount_cents BIGINT UNSIGNED  NOT NULL,
    status       VARCHAR(16)      NOT NULL,
    -- 1, or NULL once cancelled: NULLs are distinct to a unique key, so a cancelled buyer may buy again.
    active       TINYINT UNSIGNED NULL,
    accepted_at  DATETIME(3)      NOT NULL,
    committed_at DATETIME(3)      NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY one_active_order (sale_id, user_id, active)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

-- No foreign key to sales: an order for a sale that does not exist is rejected, and recorded, too.
CREATE TABLE IF NOT EXISTS rejections (
    order_id    BINARY(16)      NOT NULL,
    sale_id     BIGINT UNSIGNED NOT NULL,
    user_id     BIGINT UNSIGNED NOT NULL,
    quantity    INT UNSIGNED    NOT NULL,
    reason      VARCHAR(32)     NOT NULL,
    accepted_at DATETIME(3)     NOT NULL,
    created_at  DATETIME(3)     NOT NULL,
    PRIMARY KEY (order_id),
    KEY rejections_of_user (sale_id, user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;
