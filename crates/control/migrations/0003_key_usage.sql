-- What each key spent, by UTC day. A deleted key leaves its rows: past usage keeps the hash.

CREATE TABLE key_usage (
    hash          TEXT NOT NULL,
    day           TEXT NOT NULL, -- YYYY-MM-DD
    nano_usd      INTEGER NOT NULL, -- billionths of a USD
    byok_nano_usd INTEGER NOT NULL, -- charged to a provider key of the caller's own
    events        INTEGER NOT NULL, -- spans
    last_used     TEXT NOT NULL,
    PRIMARY KEY (hash, day)
) STRICT, WITHOUT ROWID;

-- Now the latest `last_used` above.
ALTER TABLE keys DROP COLUMN last_used_at;
