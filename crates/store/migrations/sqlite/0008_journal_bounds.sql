-- Which line a line follows, so that two that follow the same one show; the proof that a line used up; the agent's time, as the row
-- has that of its receipt; and how much each account handed over, by the day.
ALTER TABLE audit ADD COLUMN line_prev TEXT;
ALTER TABLE audit ADD COLUMN proof_nonce TEXT;
ALTER TABLE audit ADD COLUMN reported_at BIGINT;
CREATE INDEX audit_line_prev ON audit (agent_id, line_prev) WHERE line_prev IS NOT NULL;
CREATE UNIQUE INDEX audit_proof ON audit (agent_id, proof_nonce) WHERE proof_nonce IS NOT NULL;

CREATE TABLE journal_days (
    reporter_id TEXT   NOT NULL,
    day         BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    PRIMARY KEY (reporter_id, day)
);

-- The audit of a name, of an agent or of a rare action: half a second per million rows without them.
CREATE INDEX audit_principal ON audit (principal, at);
CREATE INDEX audit_agent ON audit (agent_id, at) WHERE agent_id IS NOT NULL;
CREATE INDEX audit_action ON audit (action, at);
