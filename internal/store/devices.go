package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/visavis/visavis/internal/outbox"
)

// Devices keeps the devices that can be pushed. It is an [outbox.Devices]. It has no state but the database, and no
// goroutine.
type Devices struct{ pools *pools }

// All returns all devices. The one that was renewed longest ago is the first.
func (d *Devices) All(ctx context.Context) ([]outbox.Device, error) {
	rows, err := d.pools.read.QueryContext(ctx, `
		SELECT endpoint, user_id, user_name, p256dh, auth, do_not_disturb, created_at, updated_at
		FROM push_devices ORDER BY updated_at, endpoint`)
	if err != nil {
		return nil, fmt.Errorf("read push devices: %w", err)
	}
	defer rows.Close()
	var devices []outbox.Device
	for rows.Next() {
		var (
			device           outbox.Device
			created, renewed int64
		)
		err := rows.Scan(&device.Endpoint, &device.User.ID, &device.User.Name, &device.Key, &device.Auth, &device.DoNotDisturb,
			&created, &renewed)
		if err != nil {
			return nil, fmt.Errorf("read push devices: %w", err)
		}
		device.CreatedAt, device.RenewedAt = time.UnixMilli(created).UTC(), time.UnixMilli(renewed).UTC()
		devices = append(devices, device)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read push devices: %w", err)
	}
	return devices, nil
}

// Keep writes a device. If there is one with the same endpoint, it takes the place of that one, whose CreatedAt stays.
// The name of its user and their wish not to be disturbed are written to all devices of the user.
func (d *Devices) Keep(ctx context.Context, device outbox.Device) error {
	err := d.pools.inTransaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
		INSERT INTO push_devices (endpoint, user_id, user_name, p256dh, auth, do_not_disturb, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (endpoint) DO UPDATE SET user_id = excluded.user_id, user_name = excluded.user_name, p256dh = excluded.p256dh,
			auth = excluded.auth, do_not_disturb = excluded.do_not_disturb, updated_at = excluded.updated_at`,
			device.Endpoint, storable(device.User.ID), storable(device.User.Name), device.Key, device.Auth, device.DoNotDisturb,
			device.CreatedAt.UnixMilli(), device.RenewedAt.UnixMilli())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE push_devices SET user_name = $2, do_not_disturb = $3 WHERE user_id = $1`,
			storable(device.User.ID), storable(device.User.Name), device.DoNotDisturb)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a push device: %w", err)
	}
	return nil
}

// Forget deletes the device with an endpoint, if there is one.
func (d *Devices) Forget(ctx context.Context, endpoint string) error {
	if _, err := d.pools.write.ExecContext(ctx, `DELETE FROM push_devices WHERE endpoint = $1`, endpoint); err != nil {
		return fmt.Errorf("forget a push device: %w", err)
	}
	return nil
}
