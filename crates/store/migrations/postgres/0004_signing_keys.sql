-- The keys that sign what agents rely on, sealed with the master key: the current one, and the next, which has the number that follows.
CREATE TABLE signing_keys (
    number  BIGINT PRIMARY KEY,
    sealed  BYTEA NOT NULL,
    made_at BIGINT NOT NULL
);
