-- Why a call failed.

-- +goose Up
ALTER TABLE calls ADD COLUMN detail TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE calls DROP COLUMN detail;
