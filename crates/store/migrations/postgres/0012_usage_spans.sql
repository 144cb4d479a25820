-- Sums of days and of 30 days beside those of hours, and of all accounts beside those of each, so that an answer about a year reads few of
-- them. A row of usage is added to all of them in the transaction that marks it as counted.
-- With millions of sums it takes longer than a statement may.
SET LOCAL statement_timeout = 0;
CREATE TABLE usage_sums (
    -- How many hours the sum is of: 1, 24 or 720. Each begins at a multiple of its length since 1970, UTC.
    span         BIGINT NOT NULL,
    -- 1 where it is of all accounts together.
    of_all       BIGINT NOT NULL,
    -- Its first hour, in hours since 1970.
    hour         BIGINT NOT NULL,
    -- The account's id; of rows from before ids were recorded, its kind and name; empty where the sum is of all.
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
    PRIMARY KEY (span, of_all, hour, account, llm_id, model)
);
CREATE INDEX usage_sums_account ON usage_sums (account, span, hour);

WITH kept (span, of_all) AS (VALUES (1, 0), (24, 0), (720, 0), (1, 1), (24, 1))
INSERT INTO usage_sums
SELECT span, of_all, hour / span * span, CASE of_all WHEN 1 THEN '' ELSE account END, llm_id, model,
       MAX(CASE of_all WHEN 1 THEN '' ELSE principal END), MAX(llm_name), SUM(requests), SUM(fallbacks), SUM(failures),
       SUM(input_tokens), SUM(output_tokens), SUM(cached_input_tokens), SUM(cache_write_input_tokens), SUM(reasoning_tokens),
       SUM(estimated), SUM(unpriced), SUM(cost_nanos)
FROM usage_hours CROSS JOIN kept
GROUP BY 1, 2, 3, 4, 5, 6;
DROP TABLE usage_hours;
