-- What Limits have counted, shared by all replicas; what an inference cost, in nano-dollars, NULL where the price is unknown.
CREATE TABLE limit_counters (
    limit_id   TEXT   NOT NULL,
    subject_id TEXT   NOT NULL,
    counts     TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (limit_id, subject_id, counts)
);
CREATE INDEX limit_counters_expires_at ON limit_counters (expires_at);

ALTER TABLE usage ADD COLUMN cached_input_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN cache_write_input_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN reasoning_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN estimated BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN cost_nanos BIGINT;
