-- The control store. Times are RFC 3339 text, ids are lower-case uuid text, hashes are lower-case hex.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE workspaces (
    id         TEXT PRIMARY KEY,
    slug       TEXT NOT NULL,
    name       TEXT NOT NULL,
    settings   TEXT NOT NULL, -- JSON: every other field of the API object
    created_at TEXT NOT NULL,
    updated_at TEXT,
    created_by TEXT,
    deleted_at TEXT
) STRICT;
-- A deleted workspace gives its slug back.
CREATE UNIQUE INDEX workspaces_slug ON workspaces (slug) WHERE deleted_at IS NULL;

CREATE TABLE destinations (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    type         TEXT NOT NULL,
    name         TEXT NOT NULL,
    plain        TEXT NOT NULL, -- JSON without secrets
    secrets      BLOB,          -- sealed: key id, nonce, ciphertext, tag; erased on delete
    managed_by   TEXT NOT NULL CHECK (managed_by IN ('api', 'file')),
    retired      INTEGER NOT NULL CHECK (retired IN (0, 1)),
    paused       INTEGER NOT NULL CHECK (paused IN (0, 1)),
    created_at   TEXT NOT NULL,
    updated_at   TEXT NOT NULL,
    deleted_at   TEXT
) STRICT;

CREATE TABLE keys (
    id                    INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    hash                  TEXT NOT NULL UNIQUE, -- SHA-256; the secret itself is never stored
    kind                  TEXT NOT NULL CHECK (kind IN ('ordinary', 'management')),
    name                  TEXT NOT NULL,
    label                 TEXT NOT NULL,
    workspace_id          TEXT REFERENCES workspaces (id),
    disabled              INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    expires_at            TEXT,
    can_assert            TEXT NOT NULL CHECK (can_assert IN ('none', 'own_workspace', 'any_workspace')),
    limit_usd             REAL,
    limit_reset           TEXT CHECK (limit_reset IN ('daily', 'weekly', 'monthly')),
    include_byok_in_limit INTEGER NOT NULL CHECK (include_byok_in_limit IN (0, 1)),
    creator_user_id       TEXT,
    external_user         TEXT,
    managed_by            TEXT NOT NULL CHECK (managed_by IN ('api', 'file')),
    created_at            TEXT NOT NULL,
    updated_at            TEXT,
    last_used_at          TEXT,
    CHECK (kind = 'management' OR workspace_id IS NOT NULL)
) STRICT;

CREATE TABLE audit (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    at     TEXT NOT NULL,
    actor  TEXT NOT NULL, -- label of the key, or what else wrote
    action TEXT NOT NULL, -- destination.create, key.update, ...
    target TEXT NOT NULL, -- id or hash
    fields TEXT NOT NULL, -- JSON array of the field names written; never values
    client TEXT           -- attribution headers of the call
) STRICT;
