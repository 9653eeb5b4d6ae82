-- Paying, and giving money back.

-- Work of several steps, of which some are outside: the row is all that whoever goes on with it needs.
CREATE TABLE sagas (
    kind     TEXT    NOT NULL,
    order_id BLOB    NOT NULL CHECK (length(order_id) = 16),
    state    TEXT    NOT NULL,
    due_at   INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    -- JSON.
    body     TEXT    NOT NULL,
    PRIMARY KEY (kind, order_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sagas_by_state ON sagas (kind, state, due_at);

-- Double-entry bookkeeping: the entries of a transfer sum to zero.
CREATE TABLE entries (
    number   INTEGER PRIMARY KEY,
    transfer BLOB    NOT NULL CHECK (length(transfer) = 16),
    order_id BLOB    NOT NULL CHECK (length(order_id) = 16),
    sale_id  INTEGER NOT NULL,
    account  TEXT    NOT NULL,
    cents    INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    CONSTRAINT one_entry UNIQUE (transfer, account)
) STRICT;
CREATE INDEX entries_of_sale ON entries (sale_id);

CREATE TABLE balances (
    user_id INTEGER NOT NULL PRIMARY KEY,
    cents   INTEGER NOT NULL CHECK (cents >= 0)
) STRICT;

CREATE TABLE coupons (
    code     TEXT    NOT NULL PRIMARY KEY,
    cents    INTEGER NOT NULL,
    -- The order that it was used for.
    order_id BLOB
) STRICT, WITHOUT ROWID;

-- Requests by their idempotency keys, and how they were answered.
CREATE TABLE requests (
    user_id     INTEGER NOT NULL,
    request_key TEXT    NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    -- NULL while it is under way.
    answer      TEXT,
    at          INTEGER NOT NULL,
    PRIMARY KEY (user_id, request_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_time ON requests (at);
