-- Whose data this is, and what a sale's gate can be used for.

CREATE TABLE ledger_identity (
    -- There is one row.
    only_row INTEGER NOT NULL PRIMARY KEY CONSTRAINT one_ledger_id CHECK (only_row = 1),
    -- 16 random bytes, made here and kept in backups.
    id       BLOB    NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO ledger_identity (only_row, id) VALUES (1, randomblob(16));

ALTER TABLE sales ADD COLUMN state TEXT NOT NULL DEFAULT 'open';
ALTER TABLE sales ADD COLUMN open_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN rebuild_owner BLOB;
ALTER TABLE sales ADD COLUMN rebuild_lease INTEGER;
ALTER TABLE sales ADD COLUMN rebuild_step TEXT;
ALTER TABLE sales ADD COLUMN rebuild_done INTEGER;
ALTER TABLE sales ADD COLUMN rebuild_total INTEGER;
ALTER TABLE sales ADD COLUMN rebuild_since INTEGER;
CREATE INDEX sales_by_state ON sales (state);

-- Orders that were rejected before their sale existed were not counted.
UPDATE sales SET rejected_orders = (SELECT COUNT(*) FROM rejections WHERE sale_id = sales.id);
