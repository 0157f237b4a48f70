package store_test

import (
	"context"
	"database/sql"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/store"
	"github.com/visavis/visavis/protocol"
)

// TestMain checks that no goroutine outlives the tests: all stores are closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// database is an empty database for one test.
type database struct {
	url    string
	endLog string
	side   *sql.DB // a connection that does not belong to the store
}

func newSQLite(t *testing.T) database {
	path := filepath.Join(t.TempDir(), "data", "visavis.db")
	return database{"sqlite:" + path, filepath.Join(filepath.Dir(path), "ends.log"), connect(t, "sqlite", "file:"+path+"?_busy_timeout=5000")}
}

// suite runs test on SQLite, and on PostgreSQL if VISAVIS_TEST_POSTGRES is the URL of a server.
func suite(t *testing.T, test func(t *testing.T, db database)) {
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, newSQLite(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		dsn := os.Getenv("VISAVIS_TEST_POSTGRES")
		if dsn == "" {
			t.Skip("VISAVIS_TEST_POSTGRES is not set")
		}
		t.Parallel()
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		schema := "test_" + strings.ToLower(string(protocol.NewUserID()))
		admin := connect(t, "pgx", dsn)
		exec(t, admin, "CREATE SCHEMA "+schema)
		t.Cleanup(func() { exec(t, admin, "DROP SCHEMA "+schema+" CASCADE") })
		query := u.Query()
		query.Set("search_path", schema)
		u.RawQuery = query.Encode()
		test(t, database{u.String(), filepath.Join(t.TempDir(), "ends.log"), connect(t, "pgx", u.String())})
	})
}

func connect(t *testing.T, driver, dsn string) *sql.DB {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// open opens a store. It is closed at the end of the test, if the test has not closed it.
func open(t *testing.T, db database) (*store.DB, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	s, err := store.Open(store.Config{URL: db.url, EndLog: db.endLog}, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, reg
}

// run runs a store until stop is called or the test ends.
func run(t *testing.T, s *store.DB) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// eventually polls until ok, for 20 s at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatal("not in 20 s: " + what)
		case <-tick.C:
		}
	}
}

// settled waits until all records are written, for a minute at most: the race detector makes SQLite slow.
func settled(t *testing.T, db *store.DB) {
	t.Helper()
	if !db.Records.Settled(t.Context(), time.Minute) {
		t.Fatal("not all records are written after a minute")
	}
}

func TestNodesMayStartAtOnce(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				s, err := store.Open(store.Config{URL: db.url, EndLog: db.endLog}, slog.New(slog.DiscardHandler), nil)
				if err != nil {
					t.Error(err)
					return
				}
				s.Close()
			})
		}
		wg.Wait()
	})
}

// TestOpenWaitsForAnotherProcess has another process write to a file that is not in WAL mode yet.
func TestOpenWaitsForAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visavis.db")
	// The busy timeout is for its COMMIT, which waits for processes that read the file at that moment.
	other, err := sql.Open("sqlite", "file:"+path+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	for _, statement := range []string{"CREATE TABLE other (n)", "BEGIN IMMEDIATE"} {
		if _, err := other.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	written := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() {
		_, err := other.Exec("COMMIT")
		written <- err
	})
	s, err := store.Open(store.Config{URL: "sqlite:" + path, EndLog: path + ".ends"}, slog.New(slog.DiscardHandler), nil)
	if err := <-written; err != nil {
		t.Fatal("the other process could not commit: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestADatabaseOfANewerVersionIsRefused(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		s.Close()
		exec(t, db.side, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)")
		_, err := store.Open(store.Config{URL: db.url, EndLog: db.endLog}, slog.New(slog.DiscardHandler), nil)
		if err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("error %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("this is no database, however long it is"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{
		"", "sqlite:", "mysql://ann:hunter2@localhost/x", "hunter2",
		"sqlite:" + file, "sqlite:" + file + "/visavis.db",
		"postgres://ann:hunter2@127.0.0.1:1/x?connect_timeout=2", "postgres://ann:hunter2@127.0.0.1:port/x",
	} {
		s, err := store.Open(store.Config{URL: dsn, EndLog: filepath.Join(t.TempDir(), "ends.log")}, slog.New(slog.DiscardHandler), nil)
		if err == nil {
			s.Close()
			t.Errorf("%q was opened", dsn)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || !strings.HasPrefix(err.Error(), "open database: ") {
			t.Errorf("%q: %v", dsn, err)
		}
	}
}

func TestSQLiteFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd name?#% é")
	path := filepath.Join(dir, "visavis.db")
	s, _ := open(t, database{url: "sqlite:" + path, endLog: filepath.Join(dir, "ends.log")})
	run(t, s)
	s.Records.Record(record(1, ann, bob))
	settled(t, s)
	if got := recent(t, s, ann, "", 5); len(got) != 1 {
		t.Errorf("%d records, want 1", len(got))
	}
	for name, want := range map[string]os.FileMode{dir: 0o700, path: 0o600, path + "-wal": 0o600, filepath.Join(dir, "ends.log"): 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
}

// TestADatabaseIsClosedToOthers also opens a restored backup, which has the rights that cp gave it.
func TestADatabaseIsClosedToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visavis.db")
	for range 2 { // a new one, and then one that was put back
		if s, err := store.Open(store.Config{URL: "sqlite:" + path, EndLog: filepath.Join(t.TempDir(), "ends.log")}, slog.New(slog.DiscardHandler), nil); err != nil {
			t.Fatal(err)
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mode %o, want 600", got)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
