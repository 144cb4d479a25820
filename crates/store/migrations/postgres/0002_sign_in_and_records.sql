-- Attempts to sign in are counted for all replicas; audit rows name principal and token by id.
CREATE TABLE login_counters (
    key         BYTEA  PRIMARY KEY,
    refilled_at BIGINT NOT NULL
);
CREATE INDEX login_counters_refilled_at ON login_counters (refilled_at);

ALTER TABLE audit ADD COLUMN principal_id TEXT;
ALTER TABLE audit ADD COLUMN token_id TEXT;
