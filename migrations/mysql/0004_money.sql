-- Paying, and giving money back. Every statement may be run again after an interruption. Times are milliseconds since 1970.

-- Work of several steps, of which some are outside: the row is all that whoever goes on with it needs.
CREATE TABLE IF NOT EXISTS sagas (
    kind     VARCHAR(16)     NOT NULL,
    order_id BINARY(16)      NOT NULL,
    state    VARCHAR(16)     NOT NULL,
    due_at   BIGINT UNSIGNED NULL,
    attempts INT UNSIGNED    NOT NULL DEFAULT 0,
    -- JSON.
    body     TEXT            NOT NULL,
    PRIMARY KEY (kind, order_id),
    KEY sagas_by_state (kind, state, due_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

-- Double-entry bookkeeping: the entries of a transfer sum to zero.
CREATE TABLE IF NOT EXISTS entries (
    number   BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    transfer BINARY(16)      NOT NULL,
    order_id BINARY(16)      NOT NULL,
    sale_id  BIGINT UNSIGNED NOT NULL,
    account  VARCHAR(64)     NOT NULL,
    cents    BIGINT          NOT NULL,
    at       BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (number),
    UNIQUE KEY one_entry (transfer, account),
    KEY entries_of_sale (sale_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS balances (
    user_id BIGINT UNSIGNED NOT NULL,
    cents   BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS coupons (
    code     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    cents    BIGINT UNSIGNED NOT NULL,
    -- The order that it was used for.
    order_id BINARY(16)      NULL,
    PRIMARY KEY (code)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;

-- Requests by their idempotency keys, and how they were answered.
CREATE TABLE IF NOT EXISTS requests (
    user_id     BIGINT UNSIGNED NOT NULL,
    request_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    hash        BINARY(32)      NOT NULL,
    -- NULL while it is under way.
    answer      TEXT            NULL,
    at          BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (user_id, request_key),
    KEY requests_by_time (at)
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4;
