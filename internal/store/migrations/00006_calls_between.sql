-- Whether one user knows another is one look, however many calls either has made.

-- +goose Up
CREATE INDEX calls_between ON calls (caller_id, callee_id, accepted_at);

-- +goose Down
DROP INDEX calls_between;
