package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/visavis/visavis/internal/outbox"
)

// PushDevices are all devices that can be pushed, the one that was renewed longest
// ago first.
func (s *Store) PushDevices(ctx context.Context) ([]outbox.Device, error) {
	rows, err := s.read.QueryContext(ctx, `
		SELECT endpoint, user_id, user_name, p256dh, auth, do_not_disturb, created_at, updated_at
		FROM push_devices ORDER BY updated_at, endpoint`)
	if err != nil {
		return nil, fmt.Errorf("read push devices: %w", err)
	}
	defer rows.Close()
	var devices []outbox.Device
	for rows.Next() {
		var (
			d                outbox.Device
			created, renewed int64
		)
		err := rows.Scan(&d.Endpoint, &d.User.ID, &d.User.Name, &d.Key, &d.Auth, &d.DoNotDisturb, &created, &renewed)
		if err != nil {
			return nil, fmt.Errorf("read push devices: %w", err)
		}
		d.CreatedAt, d.RenewedAt = time.UnixMilli(created).UTC(), time.UnixMilli(renewed).UTC()
		devices = append(devices, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read push devices: %w", err)
	}
	return devices, nil
}

// KeepPushDevice keeps a device in the place of the one with its endpoint, whose
// CreatedAt stays, and the name and wish of its user for all of theirs.
func (s *Store) KeepPushDevice(ctx context.Context, d outbox.Device) error {
	err := s.inTransaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
		INSERT INTO push_devices (endpoint, user_id, user_name, p256dh, auth, do_not_disturb, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (endpoint) DO UPDATE SET user_id = excluded.user_id, user_name = excluded.user_name, p256dh = excluded.p256dh,
			auth = excluded.auth, do_not_disturb = excluded.do_not_disturb, updated_at = excluded.updated_at`,
			d.Endpoint, storable(d.User.ID), storable(d.User.Name), d.Key, d.Auth, d.DoNotDisturb, d.CreatedAt.UnixMilli(), d.RenewedAt.UnixMilli())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE push_devices SET user_name = $2, do_not_disturb = $3 WHERE user_id = $1`,
			storable(d.User.ID), storable(d.User.Name), d.DoNotDisturb)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a push device: %w", err)
	}
	return nil
}

// ForgetPushDevice takes out the device with an endpoint, if it is there.
func (s *Store) ForgetPushDevice(ctx context.Context, endpoint string) error {
	if _, err := s.write.ExecContext(ctx, `DELETE FROM push_devices WHERE endpoint = $1`, endpoint); err != nil {
		return fmt.Errorf("forget a push device: %w", err)
	}
	return nil
}
