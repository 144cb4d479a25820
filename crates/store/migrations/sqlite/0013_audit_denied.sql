-- Who was denied: few rows of many.
CREATE INDEX audit_denied ON audit (at) WHERE decision = 'denied';
