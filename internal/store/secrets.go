package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Secret returns the secret of that name: 32 random bytes. The first call creates the secret. It never changes, and is
// the same on every node that shares the database.
func (db *DB) Secret(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	_, err := db.pools.write.ExecContext(ctx,
		`INSERT INTO secrets (name, value, made_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		name, fresh, time.Now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("keep secret %s: %w", name, err)
	}
	var kept []byte
	if err := db.pools.write.QueryRowContext(ctx, `SELECT value FROM secrets WHERE name = $1`, name).Scan(&kept); err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return kept, nil
}

// RetiredSecret returns a secret that an older version of the server created, and when this method was first called
// for it. A signature by that secret with a later date is forged. value is nil if no older version has used the
// database.
func (db *DB) RetiredSecret(ctx context.Context, name string) (value []byte, since time.Time, err error) {
	if _, err := db.Secret(ctx, name+" retired"); err != nil {
		return nil, time.Time{}, err
	}
	var at int64
	err = db.pools.write.QueryRowContext(ctx, `
		SELECT kept.value, retired.made_at FROM secrets AS kept, secrets AS retired WHERE kept.name = $1 AND retired.name = $2`,
		name, name+" retired").Scan(&value, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read secret %s: %w", name, err)
	}
	return value, time.UnixMilli(at), nil
}
