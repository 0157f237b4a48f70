package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // and the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// pingTimeout bounds the first connection.
	pingTimeout = 15 * time.Second
	// busyRetry is how long to wait before the first connection is tried again, if SQLite does not wait itself.
	busyRetry = 20 * time.Millisecond
	// connections is how many connections one node has to PostgreSQL, and how many readers of SQLite.
	connections = 4
)

// pools are the connections to one database.
//
// They own the goroutines of inTime. close waits for these.
type pools struct {
	// write and read are the same pool for PostgreSQL. SQLite has one connection that writes, and several that only
	// read.
	write, read *sql.DB
	// late counts the transactions of inTime. There are few: all but those that have a connection end with their
	// context.
	late sync.WaitGroup
}

// openPools prepares the connections to the database at dsn. It connects to nothing yet.
func openPools(dsn string, log *slog.Logger) (*pools, goose.Dialect, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "sqlite":
		p, err := openSQLite(rest, log)
		return p, goose.DialectSQLite3, err
	case "postgres", "postgresql":
		p, err := openPostgres(dsn)
		return p, goose.DialectPostgres, err
	}
	return nil, "", errors.New("the URL begins neither with sqlite: nor with postgres://")
}

func openSQLite(path string, log *slog.Logger) (*pools, error) {
	if path == "" {
		return nil, errors.New("sqlite: needs a path")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// The file contains secrets, and SQLite would create it readable for everyone. An existing file is not opened
	// here: closing another descriptor of it would drop SQLite's locks.
	switch f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); {
	case err == nil:
		if err := f.Close(); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, err
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		if err := closeToOthers(file); err != nil {
			log.Warn("other users of this machine can read the database, which holds secrets", "file", file, "error", err)
		}
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{
		"_busy_timeout": {"5000"},
		"_foreign_keys": {"on"},
		"_journal_mode": {"wal"},
		"_synchronous":  {"normal"}, // with WAL, a power cut loses at most the last records, never the file
		"_txlock":       {"immediate"},
		"_dqs":          {"false"},
	}.Encode()
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn+"&_query_only=true")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(connections)
	return &pools{write: write, read: read}, nil
}

// closeToOthers removes the rights of group and others from a file, if it exists. A restored backup may have them.
func closeToOthers(file string) error {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(file, info.Mode().Perm()&0o700)
}

func openPostgres(dsn string) (*pools, error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &pools{write: db, read: db}, nil
}

// ping makes the first connection. SQLite upgrades a lock when it switches a new file to WAL mode, and does not apply
// its busy timeout there. So ping retries if another process opens the file at the same moment.
func (p *pools) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for {
		err := p.write.PingContext(ctx)
		var refused *sqlite.Error
		if !errors.As(err, &refused) || refused.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		pause(ctx, busyRetry)
		if ctx.Err() != nil {
			return err
		}
	}
}

// inTransaction runs write in one transaction.
func (p *pools) inTransaction(ctx context.Context, write func(*sql.Tx) error) error {
	tx, err := p.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := write(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// inTime is inTransaction for a caller who is waiting: it returns when ctx ends. SQLite itself does not: while another
// process writes, it waits for its own timeout of 5 s. A transaction that is late is rolled back.
func (p *pools) inTime(ctx context.Context, write func(*sql.Tx) error) error {
	done := make(chan error, 1)
	p.late.Go(func() { done <- p.inTransaction(ctx, write) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits for late transactions, and closes all connections. Nobody may use the pools meanwhile. The contexts of late
// transactions have ended, so that takes SQLite's timeout of 5 s at most.
func (p *pools) close() error {
	p.late.Wait()
	var errs []error
	if p.read != p.write {
		errs = append(errs, p.read.Close())
	}
	errs = append(errs, p.write.Close()) // last: this removes SQLite's WAL file
	return errors.Join(errs...)
}
