-- What agents report of local answers, beside central decisions; and the end of each agent's chain, as its reporter handed it over.
ALTER TABLE audit ADD COLUMN agent_id TEXT;
ALTER TABLE audit ADD COLUMN line_seq BIGINT;
ALTER TABLE audit ADD COLUMN line_hash TEXT;
ALTER TABLE audit ADD COLUMN line TEXT;
ALTER TABLE audit ADD COLUMN reported_by TEXT;
ALTER TABLE audit ADD COLUMN reported_by_id TEXT;
ALTER TABLE audit ADD COLUMN confirmed BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX audit_line ON audit (agent_id, line_seq, line_hash) WHERE line_hash IS NOT NULL;
CREATE INDEX audit_principal_id ON audit (principal_id, at);

CREATE TABLE journal_chains (
    agent_id    TEXT   NOT NULL,
    reporter_id TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    hash        TEXT   NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (agent_id, reporter_id)
);
CREATE INDEX journal_chains_reporter ON journal_chains (reporter_id);
