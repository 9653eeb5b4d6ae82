-- What operators change about a sale, and the idempotency keys under which sales are created.

ALTER TABLE sales ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN request_key TEXT;
ALTER TABLE sales ADD COLUMN request_hash BLOB;
CREATE UNIQUE INDEX one_sale_a_key ON sales (request_key);
