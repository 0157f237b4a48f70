package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

func logAt(t *testing.T, path string) *endLog {
	t.Helper()
	l, err := openEndLog(path, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewCounter(prometheus.CounterOpts{Name: "failed"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.close() })
	return l
}

func endOf(n int, at time.Time) call.Record {
	return call.Record{
		Call:   protocol.CallID(fmt.Sprintf("n1-%d", n)),
		Caller: protocol.User{ID: "uann", Name: strings.Repeat("\u202eä\x00\"", 100)}, Callee: protocol.User{ID: "ubob", Name: "Bob"},
		RungAt: at.Add(-2 * time.Minute), AcceptedAt: at.Add(-time.Minute), EndedAt: at, Reason: protocol.ReasonHungup,
	}
}

// TestAnEndOutlivesTheProcess opens the file again while the first log neither flushes nor closes it, as if its process
// had been killed.
func TestAnEndOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "ends.log")
	l, now := logAt(t, path), time.Now()
	l.add(endOf(1, now), now)
	next := logAt(t, path)
	if !next.ended("n1-1") || next.ended("n1-2") {
		t.Errorf("the next knows of 1: %v, of 2: %v", next.ended("n1-1"), next.ended("n1-2"))
	}
	got := next.youngerThan(now.Add(-time.Second))
	if len(got) != 1 || !got[0].EndedAt.Equal(now) || got[0].Reason != protocol.ReasonHungup || got[0].Callee.Name != "Bob" {
		t.Errorf("records: %+v", got)
	}
	if !next.covers(now) || next.covers(now.Add(-time.Hour)) {
		t.Error("it does not know from when on it is complete")
	}
	next.add(endOf(2, now), now)
	if last := logAt(t, path); !last.ended("n1-1") || !last.ended("n1-2") {
		t.Error("the second run's end took the place of the first run's")
	}
}

// TestTheEndLogForgetsTheOldest also checks that the log then does not claim to be complete for calls of that time.
func TestTheEndLogForgetsTheOldest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ends.log")
	l, began := logAt(t, path), time.Now()
	for i := range endLogSlots + 10 {
		at := began.Add(time.Duration(i) * time.Second)
		l.add(endOf(i, at), at)
	}
	for name, l := range map[string]*endLog{"this run": l, "the next": logAt(t, path)} {
		for i, want := range map[int]bool{0: false, 9: false, 10: true, endLogSlots + 9: true} {
			if got := l.ended(endOf(i, began).Call); got != want {
				t.Errorf("%s: end %d is remembered: %v, want %v", name, i, got, want)
			}
		}
		if l.covers(began.Add(9 * time.Second)) {
			t.Errorf("%s: it claims to be complete for calls whose ends it has forgotten", name)
		}
		if !l.covers(began.Add(11 * time.Second)) {
			t.Errorf("%s: it is complete since the 11th second and says that it is not", name)
		}
	}
}

func TestADamagedEndLogProvesNothing(t *testing.T) {
	for name, at := range map[string]int64{"in the header": 12, "in an end": slotSize + 12, "elsewhere": 7*slotSize + 1} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ends.log")
			l, now := logAt(t, path), time.Now()
			l.add(endOf(1, now), now)
			if _, err := l.file.WriteAt([]byte("?"), at); err != nil {
				t.Fatal(err)
			}
			next := logAt(t, path)
			if next.covers(now) {
				t.Error("it claims to be complete")
			}
			if !next.covers(time.Now().Add(time.Second)) {
				t.Error("it is not complete for what comes")
			}
		})
	}
	path := filepath.Join(t.TempDir(), "ends.log")
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openEndLog(path, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "can be removed") {
		t.Errorf("a file that is too short: %v", err)
	}
}

// TestAnEndIsWrittenAgain has writes to the file fail for a while. Meanwhile the log has the ends in memory.
func TestAnEndIsWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ends.log")
	l, now := logAt(t, path), time.Now()
	whole := l.file
	broken, err := os.Open(path) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = broken.Close() }()
	l.file = broken
	l.add(endOf(1, now), now)
	l.add(endOf(2, now), now)
	if !l.ended("n1-1") {
		t.Error("the process itself has forgotten")
	}
	if l.flush() {
		t.Error("what was not written counts as flushed")
	}
	l.file = whole
	if !l.flush() {
		t.Error("it is not written")
	}
	if next := logAt(t, path); !next.ended("n1-1") || !next.ended("n1-2") {
		t.Error("the next run does not know of the ends")
	}
}
