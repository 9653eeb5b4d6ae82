-- What becomes of orders after their commit, and the events that tell of it.

ALTER TABLE sales ADD COLUMN payment_window_ms INTEGER;
ALTER TABLE sales ADD COLUMN ended_orders INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN ended_units INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN returned_orders INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN returned_units INTEGER NOT NULL DEFAULT 0;

ALTER TABLE orders ADD COLUMN sequence INTEGER NOT NULL DEFAULT 1;
ALTER TABLE orders ADD COLUMN cancel_reason TEXT;

-- Orders that wait to be paid, of sales that have a payment window. Apart from the orders, so that a sale without one pays
-- nothing for it.
CREATE TABLE unpaid (
    order_id BLOB    NOT NULL PRIMARY KEY CHECK (length(order_id) = 16),
    pay_by   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX unpaid_by_time ON unpaid (pay_by, order_id);

-- Events that were written in the transaction of the state that they tell of.
CREATE TABLE outbox (
    -- In the order in which they were written.
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB    NOT NULL CHECK (length(id) = 16),
    kind            TEXT    NOT NULL,
    subject         TEXT    NOT NULL,
    -- The CloudEvent in JSON.
    body            TEXT    NOT NULL,
    state           TEXT    NOT NULL DEFAULT 'pending',
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    error           TEXT,
    CONSTRAINT one_event UNIQUE (id)
) STRICT;
CREATE INDEX outbox_by_state ON outbox (state, next_attempt_at);

-- Which events a consumer has taken in. The row is written in the transaction of the event's effect, so the key makes the
-- effect happen once.
CREATE TABLE inbox (
    consumer TEXT NOT NULL,
    event_id BLOB NOT NULL CHECK (length(event_id) = 16),
    PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;

-- The state of the subscribers that are part of seckill.
CREATE TABLE points (
    user_id INTEGER NOT NULL PRIMARY KEY,
    points  INTEGER NOT NULL
) STRICT;

CREATE TABLE notices (
    number   INTEGER PRIMARY KEY,
    order_id BLOB    NOT NULL CHECK (length(order_id) = 16),
    user_id  INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX notices_of_order ON notices (order_id);

CREATE TABLE funnel (
    sale_id      INTEGER NOT NULL,
    stage        TEXT    NOT NULL,
    orders       INTEGER NOT NULL,
    units        INTEGER NOT NULL,
    amount_cents INTEGER NOT NULL,
    PRIMARY KEY (sale_id, stage)
) STRICT, WITHOUT ROWID;
