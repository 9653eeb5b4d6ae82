-- Columns, constraints and indexes have the names that they have on MySQL.

ALTER TABLE orders RENAME COLUMN order_id TO id;

DROP INDEX rejections_by_user;
CREATE INDEX rejections_of_user ON rejections (sale_id, user_id);

-- A constraint gets another name only with its table.
CREATE TABLE new_sales (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL,
    product         TEXT    NOT NULL,
    stock           INTEGER NOT NULL,
    -- Running totals of the rows of orders and rejections, changed in the transaction that writes those rows.
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
    -- The second line behind the conditional update: whatever a program does, no sale is ever oversold.
    CONSTRAINT sold_within_stock CHECK (sold BETWEEN 0 AND stock)
) STRICT;
INSERT INTO new_sales SELECT * FROM sales;
DROP TABLE sales;
ALTER TABLE new_sales RENAME TO sales;
