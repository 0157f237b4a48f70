// Package store keeps everything that outlives a restart in one database, SQLite or PostgreSQL, with the same SQL.
//
// [Open] opens the database and brings its tables up to date. The [DB] that it returns has one type for each kind of
// data:
//
//   - [Records]: the records of calls, which calls have ended, and who knows whom.
//   - [Logins]: the tokens of users, and who has signed out everywhere.
//   - [Devices]: the devices that can be pushed.
//   - [DB.Secret]: keys that all nodes share.
//
// Keep [DB.Run] running in a goroutine of its own, and call [DB.Close] last, after Run has returned.
//
// Nobody waits for the database to take the record of a call or a login that is kept. Both are queued, and one
// goroutine writes them:
//
//	Records.Record ────▶ queue ──┐
//	   └─▶ end log (a file)      ├──▶ writer (in Run) ──▶ database ◀── all other methods
//	Logins.KeepLogin ──▶ queue ──┘
//
// The package decides nothing: its callers decide who may see a record. It is no cache either: other packages keep in
// memory what a running call needs, so a slow or absent database stops no call.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says where the database is and how long it keeps records.
type Config struct {
	// URL is sqlite:PATH, or a postgres:// URL as libpq takes it. Required.
	URL string
	// EndLog is the path of the file that remembers which calls have ended. Open creates the file, 4 MB large, if
	// it does not exist. Only one server at a time may use it. Required.
	EndLog string
	// Keep is how long the record of a call is kept after the call has ended. 0 keeps records forever.
	// Who knows whom is never deleted.
	Keep time.Duration
}

// DB is the opened database. Its methods, and those of its fields, may be called by any goroutine.
//
// Run starts all background goroutines of the package and waits for them. Close waits for transactions whose callers
// have given up.
type DB struct {
	Records *Records
	Logins  *Logins
	Devices *Devices

	pools  *pools
	writer *writer
}

// Open connects to the database and brings its tables up to date. If the database is a file that does not exist, Open
// creates it. No error contains a password.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*DB, error) {
	if cfg.EndLog == "" {
		return nil, errors.New("open database: no path for the log of ended calls")
	}
	p, dialect, err := openPools(cfg.URL, log)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := p.migrate(dialect); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), p.close())
	}
	m := newMetrics(reg)
	ends, err := openEndLog(cfg.EndLog, log, m.endLogFailures)
	if err != nil {
		return nil, errors.Join(
			fmt.Errorf("open the log of ended calls: %w; its directory (the setting data) must be writable", err), p.close())
	}
	db := newDB(p, ends, cfg.Keep, log, m)
	registerWaiting(reg, db.Records.queue.len)
	db.Records.replay(time.Now())
	return db, nil
}

// newDB puts the types together that share the pools.
func newDB(p *pools, ends *endLog, keep time.Duration, log *slog.Logger, m metrics) *DB {
	wake := newSignal()
	records := newRecords(p, ends, keep, wake, log, m)
	logins := newLogins(p, wake, log)
	return &DB{
		Records: records, Logins: logins, Devices: &Devices{p}, pools: p,
		writer: &writer{log: log, failures: m.failures, pools: p, records: records.queue, logins: logins.queue, wake: wake},
	}
}

// Run writes records and logins as they come, and retries while the database fails. It deletes what is too old.
//
// When ctx ends, Run writes what is queued, for 5 s at most, waits for its goroutines and returns nil. Call it once.
func (db *DB) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { db.Records.run(ctx) })
	parts.Go(func() { db.Logins.run(ctx) })
	db.writer.run(ctx)
	parts.Wait()
	return nil
}

// Failure returns why the last write of records and logins failed. It is nil if that write succeeded, or if nothing
// has been written yet.
func (db *DB) Failure() error { return db.writer.lastFailure() }

// Close writes what was queued after [DB.Run] had returned, for 1 s at most, and closes the database. Call it once,
// after Run. Records that are handed over later are lost and counted.
func (db *DB) Close() error {
	db.writer.drain(closeTimeout)
	db.Records.queue.close()
	db.Logins.queue.close()
	return errors.Join(db.Records.ends.close(), db.pools.close())
}
