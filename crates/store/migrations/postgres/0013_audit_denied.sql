-- Who was denied: few rows of many.
-- With millions of rows it takes longer than a statement may.
SET LOCAL statement_timeout = 0;
CREATE INDEX audit_denied ON audit (at) WHERE decision = 'denied';
