package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// openTimeout bounds connecting and migrating. It is long enough for a database that starts at the same time as the
// server, and for altering a large table.
const openTimeout = 2 * time.Minute

// migrate connects to the database and brings its tables up to date.
func (p *pools) migrate(dialect goose.Dialect) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := p.ping(ctx); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if dialect == goose.DialectPostgres { // several nodes may start at once
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(openTimeout.Seconds())))
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, p.write, files, options...)
	if err != nil {
		return err
	}
	for last := int64(-1); ; {
		have, want, err := provider.GetVersions(ctx)
		if err != nil {
			return err
		}
		if have > want {
			return fmt.Errorf("a newer version of this program made it (tables %d, this program knows %d)", have, want)
		}
		if _, err = provider.Up(ctx); err == nil {
			return nil
		}
		// goose has no lock for SQLite. If another process has applied a migration first, continue from its version.
		if have == last {
			return fmt.Errorf("bring tables up to date: %w", err)
		}
		last = have
	}
}
