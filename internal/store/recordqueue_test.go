package store_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/store"
)

func TestManyCallersAtOnce(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		const callers, calls = 16, 100
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := range calls {
					s.Records.Record(record(c*calls+i, ann, bob))
					if i%25 == 0 {
						recent(t, s, ann, "", 5)
					}
				}
			})
		}
		wg.Wait()
		settled(t, s)
		if got := len(recent(t, s, bob, "", 2*callers*calls)); got != callers*calls {
			t.Errorf("%d records, want %d", got, callers*calls)
		}
	})
}

// TestAStalledDatabaseStopsNobody has another connection hold a lock.
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
			s.Records.Record(record(i, ann, bob))
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
		settled(t, s)
		if written := metric(t, reg, "visavis_store_records_written_total"); written != 1000 {
			t.Errorf("%v records are counted as written, want 1000", written)
		}
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
			s.Records.Record(record(i, ann, bob))
		}
		eventually(t, "three failures", func() bool { return metric(t, reg, "visavis_store_write_failures_total") >= 3 })
		if _, err := s.Records.Recent(t.Context(), ann.ID, "", 1); err == nil {
			t.Error("Recent does not say that the database fails")
		}
		exec(t, db.side, "ALTER TABLE calls_gone RENAME TO calls")
		settled(t, s)
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
			s.Records.Record(record(i, ann, bob))
		}
		if lost := metric(t, reg, "visavis_store_records_lost_total"); lost != 100 {
			t.Errorf("%v records lost, want 100", lost)
		}
		if n := strings.Count(log.String(), "being lost"); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, &log)
		}
		run(t, s)
		settled(t, s)
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
			s.Records.Record(record(i, ann, bob))
		}
		stop()
		s.Records.Record(record(500, ann, bob)) // a call that ended while the rest stopped
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.Records.Record(record(501, ann, bob))
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
		s.Records.Record(record(1, ann, bob))
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
