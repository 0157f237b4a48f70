-- How many bytes of a call went over our relay.

-- +goose Up
ALTER TABLE calls ADD COLUMN relayed BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE calls DROP COLUMN relayed;
