-- Whose orders the batches are: the id of the ledger that was in the folder when the file was opened last. One row; none in
-- a file that only older versions have opened.
CREATE TABLE owner (
    ledger_id TEXT NOT NULL
) STRICT;
