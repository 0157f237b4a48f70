-- Times are milliseconds since 1970 in UTC, so that both databases order and return them alike.

-- +goose Up
CREATE TABLE calls (
    id          TEXT PRIMARY KEY,
    caller_id   TEXT NOT NULL,
    caller_name TEXT NOT NULL,
    callee_id   TEXT NOT NULL,
    callee_name TEXT NOT NULL,
    video       BOOLEAN NOT NULL,
    rung_at     BIGINT NOT NULL,
    accepted_at BIGINT, -- NULL when nobody accepted
    ended_at    BIGINT NOT NULL,
    reason      TEXT NOT NULL
);

-- A user's calls, newest first, are one walk of each.
CREATE INDEX calls_by_caller ON calls (caller_id, rung_at, id);
CREATE INDEX calls_by_callee ON calls (callee_id, rung_at, id);

-- +goose Down
DROP TABLE calls;
