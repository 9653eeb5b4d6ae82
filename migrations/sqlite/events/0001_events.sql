-- Events that a subscriber still needs. An event that nobody needs any more is deleted.
CREATE TABLE events (
    -- In the order in which they were published; never used twice.
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id     BLOB    NOT NULL CHECK (length(id) = 16),
    kind   TEXT    NOT NULL,
    -- The CloudEvent in JSON.
    body   TEXT    NOT NULL
) STRICT;

CREATE TABLE subscribers (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL once it has been ended: what waits for it is being thrown away.
    name     TEXT,
    -- Patterns of event types, with a blank between two.
    patterns TEXT NOT NULL,
    CONSTRAINT one_subscriber UNIQUE (name)
) STRICT;

-- Who receives now, in any process. A row that is not renewed until `alive_until` is one of a process that is gone.
CREATE TABLE receivers (
    -- Never used twice, so that what a receiver had in hand is free once its row is gone.
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    subscriber   INTEGER NOT NULL,
    -- Milliseconds since 1970, UTC.
    alive_until  INTEGER NOT NULL,
    -- 1: its process is the one that has the data folder's lock.
    has_the_lock INTEGER NOT NULL
) STRICT;
CREATE INDEX receivers_of_subscriber ON receivers (subscriber);

-- What waits for a subscriber, or is in hand. The row is deleted when the event is acknowledged.
CREATE TABLE deliveries (
    subscriber INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    -- Who has it in hand, while there is such a receiver.
    receiver   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (subscriber, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_of_event ON deliveries (number);

-- What a subscriber could not take in, and waits for a human.
CREATE TABLE parked (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    subscriber INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    parked_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX parked_of_subscriber ON parked (subscriber);
CREATE INDEX parked_of_event ON parked (number);
