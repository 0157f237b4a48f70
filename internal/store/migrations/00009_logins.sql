-- The tokens of guests who have been in a call, by their SHA-256. Of users who have signed out everywhere all tokens are void.

-- +goose Up
CREATE TABLE logins (
    hash       BYTEA PRIMARY KEY,
    user_id    TEXT NOT NULL,
    user_name  TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL -- to a day
);

CREATE INDEX logins_by_user ON logins (user_id, used_at);
-- Logins that are old enough to be deleted are one walk of this; sign-outs likewise.
CREATE INDEX logins_by_use ON logins (used_at);

CREATE TABLE sign_outs (
    user_id TEXT PRIMARY KEY,
    at      BIGINT NOT NULL
);

CREATE INDEX sign_outs_by_time ON sign_outs (at);

-- +goose Down
DROP TABLE sign_outs;
DROP TABLE logins;
