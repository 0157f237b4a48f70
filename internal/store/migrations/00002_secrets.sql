-- +goose Up
CREATE TABLE secrets (
    name    TEXT PRIMARY KEY,
    value   BYTEA NOT NULL,
    made_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE secrets;
