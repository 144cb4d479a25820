-- Sums of usage by hour, account, Llm and model, so that an answer about a month reads no row of a request. A row is added to them once:
-- in the transaction that adds it, it is marked as counted.
ALTER TABLE usage ADD COLUMN principal_id TEXT;
-- Whether the row begins its caller's request, and whether its Llm answers in place of another one.
ALTER TABLE usage ADD COLUMN begins BIGINT NOT NULL DEFAULT 1;
ALTER TABLE usage ADD COLUMN fallback BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;
-- Of the few rows that wait to be counted; at first, of all. With millions of them that takes longer than a statement may.
SET LOCAL statement_timeout = 0;
CREATE INDEX usage_uncounted ON usage (counted) WHERE counted = 0;

CREATE TABLE usage_hours (
    -- Hours since 1970, UTC.
    hour         BIGINT NOT NULL,
    -- The account's id; of rows from before ids were recorded, its kind and name.
    account      TEXT   NOT NULL,
    llm_id       TEXT   NOT NULL,
    model        TEXT   NOT NULL,
    principal    TEXT   NOT NULL,
    llm_name     TEXT   NOT NULL,
    requests     BIGINT NOT NULL,
    fallbacks    BIGINT NOT NULL,
    failures     BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens            BIGINT NOT NULL,
    cached_input_tokens      BIGINT NOT NULL,
    cache_write_input_tokens BIGINT NOT NULL,
    reasoning_tokens         BIGINT NOT NULL,
    -- Rows whose tokens are an estimate, and rows with tokens of an unknown price.
    estimated    BIGINT NOT NULL,
    unpriced     BIGINT NOT NULL,
    cost_nanos   BIGINT NOT NULL,
    PRIMARY KEY (hour, account, llm_id, model)
);
CREATE INDEX usage_hours_account ON usage_hours (account, hour);
