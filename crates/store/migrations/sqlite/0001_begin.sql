-- Resources at gap-free revisions, the feed of their changes, and what goes on record.
CREATE TABLE revision (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    current BIGINT  NOT NULL
);
INSERT INTO revision (one, current) VALUES (1, 0);

CREATE TABLE resources (
    id           TEXT   PRIMARY KEY,
    kind         TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    revision     BIGINT NOT NULL,
    body         TEXT   NOT NULL,
    confidential BLOB,
    UNIQUE (kind, name)
);

CREATE TABLE changes (
    revision BIGINT PRIMARY KEY,
    kind     TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    op       TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    actor    TEXT   NOT NULL,
    body     TEXT
);

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE audit (
    id            TEXT   PRIMARY KEY,
    at            BIGINT NOT NULL,
    principal     TEXT   NOT NULL,
    action        TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    resource_id   TEXT,
    resource_name TEXT   NOT NULL,
    decision      TEXT   NOT NULL,
    reason        TEXT   NOT NULL,
    revision      BIGINT NOT NULL,
    request_id    TEXT   NOT NULL
);
CREATE INDEX audit_at ON audit (at);

CREATE TABLE usage (
    id            TEXT   PRIMARY KEY,
    at            BIGINT NOT NULL,
    principal     TEXT   NOT NULL,
    token_id      TEXT   NOT NULL,
    llm_id        TEXT   NOT NULL,
    llm_name      TEXT   NOT NULL,
    model         TEXT   NOT NULL,
    input_tokens  BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    stream        BIGINT NOT NULL,
    outcome       TEXT   NOT NULL,
    status        BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    duration_ms   BIGINT NOT NULL,
    request_id    TEXT   NOT NULL
);
CREATE INDEX usage_at ON usage (at);
