package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// fakeConnector connects to a database that takes a while to write. It knows only whether something is written, and
// answers that to each query.
type fakeConnector struct {
	takes   time.Duration
	quick   atomic.Bool // from now on it takes a millisecond
	written atomic.Bool
	commits atomic.Int32
}

func (d *fakeConnector) Connect(context.Context) (driver.Conn, error) { return fakeConn{d}, nil }
func (d *fakeConnector) Driver() driver.Driver                        { return nil }

type fakeConn struct{ *fakeConnector }

func (c fakeConn) Begin() (driver.Tx, error)           { return c, nil }
func (c fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("nobody prepares") }
func (c fakeConn) Close() error                        { return nil }
func (c fakeConn) Rollback() error                     { return nil }

func (c fakeConn) Commit() error {
	c.written.Store(true)
	c.commits.Add(1)
	return nil
}

func (d *fakeConnector) time() time.Duration {
	if d.quick.Load() {
		return time.Millisecond
	}
	return d.takes
}

func (c fakeConn) ExecContext(ctx context.Context, statement string, _ []driver.NamedValue) (driver.Result, error) {
	if !strings.HasPrefix(statement, "INSERT INTO calls ") {
		return driver.RowsAffected(1), nil
	}
	select {
	case <-time.After(c.time()):
		return driver.RowsAffected(1), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c fakeConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	rows := &fakeRows{columns: columnCount}
	if strings.HasPrefix(strings.TrimSpace(query), "SELECT EXISTS") {
		rows.columns = 1
		rows.values = append(rows.values, []driver.Value{c.written.Load()})
	} else if c.written.Load() {
		rows.values = append(rows.values, []driver.Value{"n1-1", "uann", "Ann", "ubob", "Bob", true, int64(1), nil, int64(2), "hungup", int64(0), ""})
	}
	return rows, nil
}

type fakeRows struct {
	columns int
	values  [][]driver.Value
}

func (r *fakeRows) Columns() []string { return make([]string, r.columns) }
func (r *fakeRows) Close() error      { return nil }

func (r *fakeRows) Next(row []driver.Value) error {
	if len(r.values) == 0 {
		return io.EOF
	}
	copy(row, r.values[0])
	r.values = r.values[1:]
	return nil
}

func openFake(t *testing.T, d *fakeConnector) *DB {
	p := sql.OpenDB(d)
	return newDB(&pools{write: p, read: p}, logAt(t, filepath.Join(t.TempDir(), "ends.log")), 0, slog.New(slog.DiscardHandler), newMetrics(nil))
}

// TestRecordsGather checks that the first record is written at once, and those that come shortly after it together.
func TestRecordsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeConnector{takes: time.Millisecond}
		s := openFake(t, d)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		began := time.Now()
		for range 6 {
			s.Records.Record(call.Record{Call: "n1-1", RungAt: began, EndedAt: began})
			<-time.After(3 * time.Millisecond)
			synctest.Wait()
			if got := d.commits.Load(); got != 1 {
				t.Errorf("%d commits after %v, want 1", got, time.Since(began))
			}
		}
		<-time.After(gathering)
		synctest.Wait()
		if got := d.commits.Load(); got != 2 || s.Records.queue.len() > 0 {
			t.Errorf("%d commits, and %d records wait; want 2 and none", got, s.Records.queue.len())
		}
		stop()
		if err := errors.Join(<-ran, s.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestAReaderWaitsForWhatWasHandedOver also checks that it does not wait forever.
func TestAReaderWaitsForWhatWasHandedOver(t *testing.T) {
	recent := func(s *DB) (bool, error) {
		records, err := s.Records.Recent(context.Background(), "uann", "", 50)
		return len(records) > 0, err
	}
	knows := func(s *DB) (bool, error) { return s.Records.Knows(context.Background(), "uann", "ubob") }
	const stuck = time.Hour
	tests := []struct {
		name string
		read func(*DB) (bool, error)
		// takes is how long the database does, and waits the most that a reader may.
		takes, waits time.Duration
		sees         bool
	}{
		{"recent calls", recent, time.Second, time.Second, true},
		{"recent calls of a database that is stuck", recent, stuck, 3 * time.Second, false},
		{"who knows whom, in a database that is stuck", knows, stuck, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openFake(t, &fakeConnector{takes: test.takes})
				ctx, stop := context.WithCancel(t.Context())
				ran := make(chan error, 1)
				go func() { ran <- s.Run(ctx) }()
				now := time.Now()
				s.Records.Record(call.Record{
					Call: "n1-1", Caller: protocol.User{ID: "uann"}, Callee: protocol.User{ID: "ubob"}, RungAt: now, EndedAt: now,
				})
				sees, err := test.read(s)
				if took := time.Since(now); err != nil || sees != test.sees || took > test.waits {
					t.Errorf("it sees the call: %v after %v, %v; want %v after %v at most", sees, took, err, test.sees, test.waits)
				}
				stop()
				if err := errors.Join(<-ran, s.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestWritesThatFailAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeConnector{takes: time.Hour}
		s := openFake(t, d)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		if s.Failure() != nil || !s.Records.Complete("uann") {
			t.Errorf("before anything is written: %v, complete for Ann: %t", s.Failure(), s.Records.Complete("uann"))
		}
		now := time.Now()
		r := call.Record{Call: "n1-1", RungAt: now, EndedAt: now}
		r.Caller.ID, r.Callee.ID = "uann", "ubob"
		s.Records.Record(r)
		<-time.After(writeTimeout + time.Second)
		if s.Failure() == nil || s.Records.Complete("uann") || s.Records.Complete("ubob") || !s.Records.Complete("ucy") {
			t.Errorf("while it cannot be written: %v, complete for Ann %t, Bob %t, Cy %t",
				s.Failure(), s.Records.Complete("uann"), s.Records.Complete("ubob"), s.Records.Complete("ucy"))
		}
		synctest.Wait()
		d.quick.Store(true)
		<-time.After(2 * writeTimeout)
		if s.Failure() != nil || !s.Records.Complete("uann") {
			t.Errorf("afterwards: %v, complete for Ann: %t", s.Failure(), s.Records.Complete("uann"))
		}
		stop()
		if err := errors.Join(<-ran, s.Close()); err != nil {
			t.Error(err)
		}
	})
}
