-- One row is one order batch that waits: the queue's message. Ids are never used twice, so that an acknowledgement that
-- comes late cannot meet another batch.
CREATE TABLE batches (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    -- How many orders are in the body.
    orders INTEGER NOT NULL,
    -- The order batch as JSON.
    body   TEXT    NOT NULL
) STRICT;

-- Batches that could not be read, under the ids that they had.
CREATE TABLE parked (
    id        INTEGER PRIMARY KEY,
    orders    INTEGER NOT NULL,
    body      TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    -- Milliseconds since 1970, UTC.
    parked_at INTEGER NOT NULL
) STRICT;
