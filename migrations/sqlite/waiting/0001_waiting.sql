-- Who waits for which sale. Times are milliseconds since 1970.

CREATE TABLE rooms (
    sale_id    INTEGER PRIMARY KEY,
    -- JSON: what it was opened with, and who has been admitted.
    body       TEXT    NOT NULL,
    keep_until INTEGER NOT NULL
) STRICT;

CREATE TABLE arrivals (
    sale_id INTEGER NOT NULL,
    user_id INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    PRIMARY KEY (sale_id, user_id)
) STRICT, WITHOUT ROWID;

-- What may be used once.
CREATE TABLE spent (
    sale_id INTEGER NOT NULL,
    word    TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (sale_id, word)
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_by_time ON spent (until);
