-- Moments are integers: milliseconds since 1970, UTC. User and sale ids are unsigned 64-bit numbers whose bits are kept in
-- a signed column, so they compare for equality only: an id of 2^63 or more reads as a negative number here.

CREATE TABLE sales (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL,
    product         TEXT    NOT NULL,
    stock           INTEGER NOT NULL,
    sold            INTEGER NOT NULL DEFAULT 0,
    orders          INTEGER NOT NULL DEFAULT 0,
    rejected_orders INTEGER NOT NULL DEFAULT 0,
    price_cents     INTEGER NOT NULL,
    currency        TEXT    NOT NULL,
    per_user_limit  INTEGER NOT NULL,
    starts_at       INTEGER NOT NULL,
    ends_at         INTEGER NOT NULL,
    epoch           INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    -- A second line behind the conditional update: no code path can oversell.
    CONSTRAINT never_oversold CHECK (sold BETWEEN 0 AND stock)
) STRICT;

-- Order ids are UUIDv7, so new rows land at the end of the tree that holds them.
CREATE TABLE orders (
    order_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(order_id) = 16),
    sale_id      INTEGER NOT NULL,
    user_id      INTEGER NOT NULL,
    quantity     INTEGER NOT NULL CHECK (quantity > 0),
    amount_cents INTEGER NOT NULL,
    status       TEXT    NOT NULL,
    -- 1, or NULL once cancelled: NULLs are distinct to a unique constraint, so a cancelled buyer may buy again.
    active       INTEGER,
    accepted_at  INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    CONSTRAINT one_active_order UNIQUE (sale_id, user_id, active)
) STRICT, WITHOUT ROWID;

CREATE TABLE rejections (
    order_id    BLOB    NOT NULL PRIMARY KEY CHECK (length(order_id) = 16),
    sale_id     INTEGER NOT NULL,
    user_id     INTEGER NOT NULL,
    quantity    INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    accepted_at INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX rejections_by_user ON rejections (sale_id, user_id);
