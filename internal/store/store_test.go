package store_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/internal/store"
	"github.com/visavis/visavis/protocol"
)

// A database is an empty one of the suite, and a way past the store into it.
type database struct {
	url    string
	endLog string
	side   *sql.DB
}

func newSQLite(t *testing.T) database {
	path := filepath.Join(t.TempDir(), "data", "visavis.db")
	return database{"sqlite:" + path, filepath.Join(filepath.Dir(path), "ends.log"), connect(t, "sqlite", "file:"+path+"?_busy_timeout=5000")}
}

// suite runs test on SQLite, and on PostgreSQL when VISAVIS_TEST_POSTGRES has its URL.
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

// open opens a store that the test closes, or its end does.
func open(t *testing.T, db database) (*store.Store, *prometheus.Registry) {
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
func run(t *testing.T, s *store.Store) (stop func()) {
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

// settled waits until nothing waits to be written: how long that takes is the
// machine's affair.
func settled(t *testing.T, reg *prometheus.Registry) {
	t.Helper()
	eventually(t, "all written", func() bool { return metric(t, reg, "visavis_store_records_waiting") == 0 })
}

var (
	ann = protocol.User{ID: "uann", Name: "Ann"}
	bob = protocol.User{ID: "ubob", Name: "Bob Ω"}
	eve = protocol.User{ID: "ueve", Name: "Eve"}
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// record is the i-th call of a test, made i seconds after noon.
func record(i int, caller, callee protocol.User) call.Record {
	rung := noon.Add(time.Duration(i) * time.Second)
	return call.Record{
		Call: protocol.CallID(fmt.Sprintf("n1-%06d", i)), Caller: caller, Callee: callee,
		Video: i%2 == 0, RungAt: rung, AcceptedAt: rung.Add(2 * time.Second), EndedAt: rung.Add(time.Minute),
		Reason: protocol.ReasonHungup, RelayedBytes: uint64(i) << 40, Detail: protocol.DetailNoPath,
	}
}

func recent(t *testing.T, s *store.Store, user protocol.User, before protocol.CallID, limit int) []call.Record {
	t.Helper()
	got, err := s.Recent(t.Context(), user.ID, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func ids(records []call.Record) []protocol.CallID {
	all := []protocol.CallID{}
	for _, r := range records {
		all = append(all, r.Call)
	}
	return all
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		answered := record(1, ann, bob)
		missed := record(2, bob, ann)
		missed.AcceptedAt, missed.Reason = time.Time{}, protocol.ReasonUnanswered
		missed.RungAt = missed.RungAt.In(time.FixedZone("elsewhere", 3600))
		s.Record(answered)
		s.Record(missed)
		s.Record(record(3, bob, eve))
		settled(t, reg)

		missed.RungAt = missed.RungAt.UTC()
		want := []call.Record{missed, answered}
		if diff := gocmp.Diff(want, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
		if got := recent(t, s, protocol.User{ID: "unobody"}, "", 50); len(got) != 0 {
			t.Errorf("a stranger's calls: %v", ids(got))
		}
	})
}

func TestACallIsRecordedOnce(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		first, again := record(1, ann, bob), record(1, ann, bob)
		again.Reason = protocol.ReasonLost
		s.Record(first)
		settled(t, reg)
		s.Record(again)
		s.Record(again)
		settled(t, reg)
		if diff := gocmp.Diff([]call.Record{first}, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
	})
}

func TestACallThatLivesIsKeptUntilItsEnd(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		stop := run(t, s)
		living, ended, other := record(1, ann, bob), record(2, ann, bob), record(3, ann, bob)
		other.Call = "n2-000003"
		for _, r := range []call.Record{living, ended, other} {
			r.EndedAt, r.Reason = time.Time{}, ""
			s.Record(r)
		}
		s.Record(ended) // perhaps in one batch with its beginning
		s.Record(ended)
		if diff := gocmp.Diff([]call.Record{ended}, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s, _ = open(t, db) // the next run of the node
		run(t, s)
		kept, err := s.Living(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		want := living
		want.EndedAt, want.Reason = time.Time{}, ""
		if diff := gocmp.Diff([]call.Record{want}, kept); diff != "" {
			t.Errorf("calls that live (-want +got):\n%s", diff)
		}
		for _, accepted := range []time.Time{living.AcceptedAt, time.Now().Add(time.Hour)} { // before the end log was made, and after it
			if lives, err := s.Lives(t.Context(), living.Call, accepted); !lives || err != nil {
				t.Errorf("a call that was accepted at %v and lives: %v, %v", accepted, lives, err)
			}
		}
		if lives, err := s.Lives(t.Context(), "n1-unknown", living.AcceptedAt); lives || err != nil {
			t.Errorf("a call of which nothing is known lives: %v, %v", lives, err)
		}
		s.Record(living)
		if lives, err := s.Lives(t.Context(), living.Call, living.AcceptedAt); lives || err != nil {
			t.Errorf("a call that has ended lives: %v, %v", lives, err)
		}
		if diff := gocmp.Diff([]call.Record{ended, living}, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
		if kept, err := s.Living(t.Context(), "n1"); err != nil || len(kept) != 0 {
			t.Errorf("calls that live after the end: %v, %v", kept, err)
		}
	})
}

func TestWhoKnowsWhom(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		dan, fay, gus := protocol.User{ID: "udan"}, protocol.User{ID: "ufay"}, protocol.User{ID: "ugus"}
		accepted, unanswered, living := record(1, ann, bob), record(2, ann, eve), record(3, dan, ann)
		unanswered.AcceptedAt, unanswered.Reason = time.Time{}, protocol.ReasonUnanswered
		living.EndedAt, living.Reason = time.Time{}, ""
		odd := record(4, protocol.User{ID: "u\x00"}, ann) // as a client may call them
		odd.AcceptedAt = time.Time{}
		for _, r := range []call.Record{accepted, unanswered, living, odd} {
			s.Record(r)
		}
		for _, test := range []struct {
			user, other protocol.User
			want        bool
		}{
			{ann, bob, true},  // she has rung him
			{bob, ann, true},  // and he accepted
			{ann, eve, true},  // she has rung her
			{eve, ann, false}, // who did not accept
			{dan, ann, true},  // they talk to each other
			{ann, dan, true},
			{bob, eve, false},
			{fay, gus, false},
			{ann, ann, false},
			{odd.Caller, ann, true},
			{ann, odd.Caller, false},
		} {
			got, err := s.Knows(t.Context(), test.user.ID, test.other.ID)
			if err != nil || got != test.want {
				t.Errorf("%q knows %q: %v, %v; want %v", test.user.ID, test.other.ID, got, err, test.want)
			}
		}
		unanswered = record(5, ann, eve) // at last
		s.Record(unanswered)
		if got, err := s.Knows(t.Context(), eve.ID, ann.ID); !got || err != nil {
			t.Errorf("Eve, who has just accepted, knows Ann: %v, %v", got, err)
		}
		exec(t, db.side, "DELETE FROM calls")
		if got, err := s.Knows(t.Context(), ann.ID, bob.ID); !got || err != nil {
			t.Errorf("Ann knows Bob when the records are gone: %v, %v", got, err)
		}
		exec(t, db.side, "ALTER TABLE acquaintances RENAME TO gone")
		if _, err := s.Knows(t.Context(), fay.ID, gus.ID); err == nil {
			t.Error("Knows does not say that the database fails")
		}
	})
}

// TestOldRecordsAreDeleted, and no others; who met in them stay acquainted.
func TestOldRecordsAreDeleted(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		stop := run(t, s)
		now := time.Now()
		old := func(n int, age time.Duration, callee protocol.User) call.Record {
			r := record(n, ann, callee)
			r.RungAt, r.AcceptedAt, r.EndedAt = now.Add(-age-2*time.Minute), now.Add(-age-time.Minute), now.Add(-age)
			return r
		}
		living := old(0, 40*24*time.Hour, bob)
		living.EndedAt, living.Reason = time.Time{}, ""
		s.Record(living)
		for i := range 1200 { // more than one batch
			s.Record(old(i+1, 31*24*time.Hour, bob))
		}
		s.Record(old(2000, 29*24*time.Hour, eve))
		settled(t, reg)
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s, err := store.Open(store.Config{
			URL: db.url, EndLog: filepath.Join(t.TempDir(), "ends.log"), Keep: 30 * 24 * time.Hour,
		}, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		run(t, s)
		for deadline := time.Now().Add(10 * time.Second); ; <-time.After(20 * time.Millisecond) {
			var kept int
			if err := db.side.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM calls").Scan(&kept); err != nil {
				t.Fatal(err)
			}
			if kept == 2 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d records are kept, want the young one and the call that goes on", kept)
			}
		}
		if got := recent(t, s, ann, "", 5); len(got) != 1 || got[0].Callee.ID != eve.ID {
			t.Errorf("Ann's calls: %+v", got)
		}
		if knows, err := s.Knows(t.Context(), bob.ID, ann.ID); !knows || err != nil {
			t.Errorf("Bob knows Ann: %v, %v", knows, err)
		}
	})
}

func TestPages(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		var want []call.Record
		for i := range 60 {
			r := record(i, ann, bob)
			if i%3 == 0 {
				r.Caller, r.Callee = bob, ann
			}
			if i%7 == 0 {
				r.Callee = r.Caller // no call of ours, but it must not come twice
			}
			r.RungAt = noon.Add(time.Duration(i/4) * time.Second) // four at once
			s.Record(r)
			if r.Caller == ann || r.Callee == ann {
				want = append(want, r)
			}
		}
		settled(t, reg)
		slices.SortFunc(want, func(a, b call.Record) int {
			return cmp.Or(b.RungAt.Compare(a.RungAt), cmp.Compare(b.Call, a.Call))
		})
		var got []call.Record
		for before := protocol.CallID(""); ; {
			page := recent(t, s, ann, before, 7)
			if len(page) == 0 {
				break
			}
			if len(page) > 7 {
				t.Fatalf("a page of 7 has %d calls", len(page))
			}
			got = append(got, page...)
			before = page[len(page)-1].Call
		}
		if diff := gocmp.Diff(ids(want), ids(got)); diff != "" {
			t.Errorf("all pages (-want +got):\n%s", diff)
		}

		for _, before := range []protocol.CallID{"n1-unknown", want[0].Call} {
			_, err := s.Recent(t.Context(), eve.ID, before, 7)
			if listed := (*protocol.Error)(nil); !errors.As(err, &listed) || listed.Code != protocol.CodeUnknownCall {
				t.Errorf("Eve's calls before %s: error %v, want %s", before, err, protocol.CodeUnknownCall)
			}
		}
	})
}

func TestManyCallersAtOnce(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		const callers, calls = 16, 100
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := range calls {
					s.Record(record(c*calls+i, ann, bob))
					if i%25 == 0 {
						recent(t, s, ann, "", 5)
					}
				}
			})
		}
		wg.Wait()
		settled(t, reg)
		if got := len(recent(t, s, bob, "", 2*callers*calls)); got != callers*calls {
			t.Errorf("%d records, want %d", got, callers*calls)
		}
	})
}

func TestTextThatADatabaseRefuses(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		r := record(1, ann, bob)
		r.Caller.Name = "A\x00n\xffn"
		s.Record(r)
		settled(t, reg)
		got := recent(t, s, ann, "", 1)
		if len(got) != 1 || got[0].Caller.Name != "A\uFFFDn\uFFFDn" {
			t.Errorf("got %+v", got)
		}
	})
}

// A lock held by another connection makes the database stall.
func TestAStalledDatabaseStopsNobody(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		tx, err := db.side.Begin()
		if err != nil {
			t.Fatal(err)
		}
		// What holds the table against writers differs; nothing else in this package does.
		lock := "INSERT INTO secrets (name, value, made_at) VALUES ('held', 'x', 0)"
		if strings.HasPrefix(db.url, "postgres") {
			lock = "LOCK TABLE calls IN EXCLUSIVE MODE"
		}
		if _, err := tx.Exec(lock); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for i := range 1000 {
			s.Record(record(i, ann, bob))
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("recording took %v", took)
		}
		if got := recent(t, s, ann, "", 1); len(got) != 0 {
			t.Errorf("there already: %v", ids(got))
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all written", func() bool { return metric(t, reg, "visavis_store_records_written_total") == 1000 })
		if got := len(recent(t, s, ann, "", 2000)); got != 1000 {
			t.Errorf("%d records, want 1000", got)
		}
	})
}

func TestAFailingDatabaseIsTriedAgain(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		run(t, s)
		exec(t, db.side, "ALTER TABLE calls RENAME TO calls_gone")
		for i := range 300 {
			s.Record(record(i, ann, bob))
		}
		eventually(t, "three failures", func() bool { return metric(t, reg, "visavis_store_write_failures_total") >= 3 })
		if _, err := s.Recent(t.Context(), ann.ID, "", 1); err == nil {
			t.Error("Recent does not say that the database fails")
		}
		exec(t, db.side, "ALTER TABLE calls_gone RENAME TO calls")
		settled(t, reg)
		if got := len(recent(t, s, ann, "", 500)); got != 300 {
			t.Errorf("%d records, want 300", got)
		}
		if lost := metric(t, reg, "visavis_store_records_lost_total"); lost != 0 {
			t.Errorf("%v records lost", lost)
		}
	})
}

func TestTheOldestIsLostWhenTooManyWait(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		var log strings.Builder
		reg := prometheus.NewRegistry()
		s, err := store.Open(store.Config{URL: db.url, EndLog: db.endLog}, slog.New(slog.NewTextHandler(&log, nil)), reg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		for i := range 4096 + 100 { // nothing runs that writes them
			s.Record(record(i, ann, bob))
		}
		if lost := metric(t, reg, "visavis_store_records_lost_total"); lost != 100 {
			t.Errorf("%v records lost, want 100", lost)
		}
		if n := strings.Count(log.String(), "being lost"); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, &log)
		}
		run(t, s)
		settled(t, reg)
		got := recent(t, s, ann, "", 5000)
		if len(got) != 4096 || got[len(got)-1].Call != record(100, ann, bob).Call {
			t.Errorf("%d records, the oldest is %s; want 4096 and n1-000100", len(got), got[len(got)-1].Call)
		}
	})
}

func TestTheEndWritesWhatWaits(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		stop := run(t, s)
		for i := range 500 {
			s.Record(record(i, ann, bob))
		}
		stop()
		s.Record(record(500, ann, bob)) // a call that ended while the rest stopped
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.Record(record(501, ann, bob))
		if lost := metric(t, reg, "visavis_store_records_lost_total"); lost != 1 {
			t.Errorf("%v records lost, want the one after Close", lost)
		}
		again, _ := open(t, db)
		if got := len(recent(t, again, ann, "", 1000)); got != 501 {
			t.Errorf("%d records, want 501", got)
		}
	})
}

func TestTheEndDoesNotWaitForADatabaseThatIsGone(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		exec(t, db.side, "ALTER TABLE calls RENAME TO calls_gone")
		stop := run(t, s)
		s.Record(record(1, ann, bob))
		begin := time.Now()
		stop()
		s.Close()
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("the end took %v", took)
		}
		if lost := metric(t, reg, "visavis_store_records_lost_total"); lost != 1 {
			t.Errorf("%v records lost, want 1", lost)
		}
	})
}

func TestSecrets(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		other, _ := open(t, db) // another node
		found := make(chan string, 20)
		for i := range 20 {
			go func() {
				secret, err := []*store.Store{s, other}[i%2].Secret(t.Context(), "relay")
				if err != nil {
					t.Error(err)
				}
				found <- string(secret)
			}()
		}
		first := <-found
		for range 19 {
			if <-found != first {
				t.Fatal("two secrets of one name")
			}
		}
		if len(first) != 32 {
			t.Errorf("a secret of %d bytes, want 32", len(first))
		}
		tickets, err := s.Secret(t.Context(), "tickets")
		if err != nil || string(tickets) == first {
			t.Errorf("another name has the same secret, or error %v", err)
		}
	})
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

// TestOpenWaitsForAnotherProcess: one that writes to a file which is not in WAL mode yet.
func TestOpenWaitsForAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visavis.db")
	// Its COMMIT waits, too: for whoever reads the file at that moment.
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
	s, reg := open(t, database{url: "sqlite:" + path, endLog: filepath.Join(dir, "ends.log")})
	run(t, s)
	s.Record(record(1, ann, bob))
	settled(t, reg)
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

// A backup that is put back has the rights that cp gave it.
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
