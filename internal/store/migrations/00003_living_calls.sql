-- A call that lives is kept from its accept on, with ended_at 0, so that the next start of its node knows of it.

-- +goose Up
CREATE INDEX living_calls ON calls (id) WHERE ended_at = 0;

-- +goose Down
DROP INDEX living_calls;
