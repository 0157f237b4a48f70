-- Browsers that want to be told of rings while no page is open: a subscription of the Push API each.

-- +goose Up
CREATE TABLE push_devices (
    endpoint       TEXT PRIMARY KEY, -- where messages for it go; a secret
    user_id        TEXT NOT NULL,
    user_name      TEXT NOT NULL,
    p256dh         BYTEA NOT NULL,
    auth           BYTEA NOT NULL,
    do_not_disturb BOOLEAN NOT NULL, -- the same for all of a user's
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL
);

CREATE INDEX push_devices_by_user ON push_devices (user_id);

-- +goose Down
DROP TABLE push_devices;
