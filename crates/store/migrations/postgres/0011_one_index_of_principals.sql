-- Whose rows are asked for by id is known by name too, and each request writes a row: one index of principals is enough.
DROP INDEX audit_principal_id;
