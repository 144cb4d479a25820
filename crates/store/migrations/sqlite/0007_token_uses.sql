-- When each token was last used: written once a minute at most, and no revision of the store.
CREATE TABLE token_uses (
    token_id TEXT   PRIMARY KEY,
    used_at  BIGINT NOT NULL
);
