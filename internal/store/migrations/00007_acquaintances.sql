-- Who knows whom outlives the records of their calls: a user knows whom they have rung, and whose call they have accepted.

-- +goose Up
CREATE TABLE acquaintances (
    user_id  TEXT NOT NULL,
    other_id TEXT NOT NULL,
    PRIMARY KEY (user_id, other_id)
);

INSERT INTO acquaintances (user_id, other_id)
SELECT caller_id, callee_id FROM calls
UNION
SELECT callee_id, caller_id FROM calls WHERE accepted_at IS NOT NULL;

DROP INDEX calls_between;

-- Records that are old enough to be deleted are one walk of this.
CREATE INDEX calls_by_end ON calls (ended_at) WHERE ended_at > 0;

-- +goose Down
DROP INDEX calls_by_end;
CREATE INDEX calls_between ON calls (caller_id, callee_id, accepted_at);
DROP TABLE acquaintances;
