// Package store keeps everything that outlives a restart in one database,
// SQLite or PostgreSQL, by the same SQL. It decides nothing: who may see a record
// is its caller's matter. It is no cache, either: what a running call needs
// stands in memory elsewhere, and a slow or absent database stops no call.
//
// Come in by [Open], keep [Store.Run] running, and [Store.Close] it last:
//
//	Record ──▶ queue (bounded) ──▶ Run ──▶ database ◀── Recent, Knows, Login, Secret, PushDevices
//	   └─▶ end log (a file) ◀── Lives, EndedSince
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
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
	"github.com/pressly/goose/v3/lock"
	"github.com/prometheus/client_golang/prometheus"
	"modernc.org/sqlite" // and the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/call"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// openTimeout bounds connecting and migrating: long enough for a database
	// that starts together with us, and for a large table to be altered.
	openTimeout = 2 * time.Minute
	// pingTimeout bounds the first connection alone.
	pingTimeout = 15 * time.Second
	// busyRetry is how long to wait where SQLite does not.
	busyRetry = 20 * time.Millisecond
	// connections of one node to PostgreSQL, and of readers to SQLite.
	connections = 4
)

// Config is where the database is.
type Config struct {
	// URL is sqlite:PATH or a postgres:// URL as libpq takes it. No default.
	URL string
	// EndLog is the path of the file that remembers which calls have ended; it is made,
	// 4 MB large, where there is none. No default. One server at a time may use it.
	EndLog string
	// Keep is how long the record of a call is kept after its end; 0 is for ever. Who
	// knows whom is kept in any case.
	Keep time.Duration
}

// Store is the database. Its methods may be called by any goroutine.
type Store struct {
	log     *slog.Logger
	metrics metrics
	keep    time.Duration // of Config

	// write and read are one pool with PostgreSQL; SQLite has one connection that
	// writes and several that only read.
	write, read *sql.DB
	ends        *endLog
	met         meetings
	late        sync.WaitGroup // transactions for which nobody waits any more

	mu      sync.Mutex
	queue   []call.Record // guarded by mu; oldest first, without those in writing
	writing []call.Record // guarded by mu; those that Run has taken and not yet written
	failure error         // guarded by mu; of the last write
	handed  uint64        // guarded by mu; records ever handed over
	settled uint64        // guarded by mu; how many of those are written or lost
	losing  bool          // guarded by mu; a burst of losses has been logged
	// logins wait to be written, writingLogins is those that Run has taken; guarded by mu.
	logins        map[account.Hash]account.Login
	writingLogins []account.Login
	closed        bool          // guarded by mu
	changed       chan struct{} // guarded by mu; closed and replaced when settled grows
	wake          chan struct{} // never closed; one element: something is in the queue
}

// Open connects to the database, makes it where it is a file, and brings its
// tables up to date. Errors name no password.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	s := &Store{
		log:     log,
		keep:    cfg.Keep,
		logins:  map[account.Hash]account.Login{},
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}),
	}
	if cfg.EndLog == "" {
		return nil, errors.New("open database: no path for the log of ended calls")
	}
	scheme, rest, _ := strings.Cut(cfg.URL, ":")
	dialect := goose.DialectPostgres
	var err error
	switch scheme {
	case "sqlite":
		dialect = goose.DialectSQLite3
		err = s.openSQLite(rest)
	case "postgres", "postgresql":
		err = s.openPostgres(cfg.URL)
	default:
		return nil, errors.New("open database: the URL begins neither with sqlite: nor with postgres://")
	}
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := s.migrate(dialect); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), s.closePools())
	}
	s.metrics = newMetrics(reg, s.waiting)
	if s.ends, err = openEndLog(cfg.EndLog, log, s.metrics.endLogFailures); err != nil {
		return nil, errors.Join(
			fmt.Errorf("open the log of ended calls: %w; its directory (the setting data) must be writable", err), s.closePools())
	}
	// The run before may have been killed before the database had them.
	for _, r := range s.ends.youngerThan(time.Now().Add(-replayFor)) {
		s.enqueue(r)
	}
	return s, nil
}

func (s *Store) openSQLite(path string) error {
	if path == "" {
		return errors.New("sqlite: needs a path")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// The file holds secrets, and SQLite would let everyone read it. An existing one is
	// not opened: to close another descriptor of it would drop SQLite's locks.
	switch f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); {
	case err == nil:
		if err := f.Close(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		if err := closeToOthers(file); err != nil {
			s.log.Warn("other users of this machine can read the database, which holds secrets", "file", file, "error", err)
		}
	}
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{
		"_busy_timeout": {"5000"},
		"_foreign_keys": {"on"},
		"_journal_mode": {"wal"},
		"_synchronous":  {"normal"}, // with WAL a power cut loses the last records at most, never the file
		"_txlock":       {"immediate"},
		"_dqs":          {"false"},
	}.Encode()
	var err error
	if s.write, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn+"&_query_only=true"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(connections)
	return nil
}

// closeToOthers takes the rights of group and others from a file that may not be
// there: a backup that was put back may have them.
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

func (s *Store) openPostgres(dsn string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	s.write, s.read = db, db
	return nil
}

func (s *Store) migrate(dialect goose.Dialect) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := s.ping(ctx); err != nil {
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
	provider, err := goose.NewProvider(dialect, s.write, files, options...)
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
		// SQLite has no lock for this: another process may have been faster, and
		// then the rest is ours or done.
		if have == last {
			return fmt.Errorf("bring tables up to date: %w", err)
		}
		last = have
	}
}

// ping makes the first connection. To switch a new file to WAL, SQLite upgrades a lock, and there it does not wait for
// its busy time-out: another process that opens the file at the same moment makes it fail at once.
func (s *Store) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for {
		err := s.write.PingContext(ctx)
		var refused *sqlite.Error
		if !errors.As(err, &refused) || refused.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-time.After(busyRetry):
		case <-ctx.Done():
			return err
		}
	}
}

// Secret is 32 random bytes of that name: made on first use, the same ever
// after, on every node that shares the database.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	_, err := s.write.ExecContext(ctx,
		`INSERT INTO secrets (name, value, made_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		name, fresh, time.Now().UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("keep secret %s: %w", name, err)
	}
	var kept []byte
	if err := s.write.QueryRowContext(ctx, `SELECT value FROM secrets WHERE name = $1`, name).Scan(&kept); err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return kept, nil
}

// RetiredSecret is a secret that an older version made, and when it was asked for here
// first: what it signs from then on is forged. There is none in a database that no older
// version has used.
func (s *Store) RetiredSecret(ctx context.Context, name string) (value []byte, since time.Time, err error) {
	if _, err := s.Secret(ctx, name+" retired"); err != nil {
		return nil, time.Time{}, err
	}
	var at int64
	err = s.write.QueryRowContext(ctx, `
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

// Close writes what was recorded since [Store.Run] returned, 1 s at most, and
// closes the database. Call it once, after Run; what is recorded later is lost
// and counted.
func (s *Store) Close() error {
	s.drain(closeTimeout)
	s.refuse()
	s.late.Wait()
	return errors.Join(s.ends.close(), s.closePools())
}

func (s *Store) closePools() error {
	var errs []error
	if s.read != nil && s.read != s.write {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil { // last: it takes SQLite's WAL file with it
		errs = append(errs, s.write.Close())
	}
	return errors.Join(errs...)
}
