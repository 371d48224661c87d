-- What repeats of a POST with an Idempotency-Key are answered, for 24 hours.

CREATE TABLE answers (
    caller  TEXT NOT NULL,    -- hash of the key that called
    token   TEXT NOT NULL,    -- the Idempotency-Key
    request TEXT NOT NULL,    -- keyed hash of path, query and body: the body may hold secrets
    status  INTEGER NOT NULL,
    body    TEXT NOT NULL,    -- JSON, secrets masked; never the plaintext of a key
    at      TEXT NOT NULL,    -- in milliseconds, so that its text sorts
    PRIMARY KEY (caller, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_at ON answers (at);
