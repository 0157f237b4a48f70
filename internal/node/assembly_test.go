package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// steps notes what parts do.
type steps struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (s *steps) note(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, step)
}

// part is one that notes when it ends.
func (s *steps) part(name string, stops place) part {
	return part{
		name: name, stops: stops,
		run: func(ctx context.Context) error {
			<-ctx.Done()
			s.note(name)
			return nil
		},
		discard: func() error { s.note("discard " + name); return nil },
	}
}

func TestPartsStopInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var did steps
		relay := did.part("relay", stopRelay)
		relay.before = func() { did.note("drain") }
		parts := []part{
			did.part("store", stopStore), relay, did.part("admin", stopAdmin), did.part("hub", stopSessions),
			did.part("edge", stopListeners), did.part("certificate", stopListeners),
			{name: "calls", stops: stopCalls, before: func() { did.note("calls") }},
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := runParts(ctx, parts, slog.New(slog.DiscardHandler), cancel); err != nil {
			t.Error(err)
		}
		want := []string{"hub", "edge", "certificate", "calls", "drain", "relay", "store", "admin"}
		if !slices.Equal(did.all, want) {
			t.Errorf("stopped %q, want %q", did.all, want)
		}
	})
}

// A part that fails stops the others in the same order, and the error names it.
func TestAPartThatFailsStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var did steps
		broken := errors.New("it broke")
		failing := part{name: "edge", stops: stopListeners, run: func(context.Context) error { return broken }}
		err := runParts(t.Context(), []part{did.part("store", stopStore), did.part("hub", stopSessions), failing},
			slog.New(slog.DiscardHandler), func() {})
		if !errors.Is(err, broken) || err.Error() != "edge: it broke" {
			t.Errorf("error %v, want edge: it broke", err)
		}
		if want := []string{"hub", "store"}; !slices.Equal(did.all, want) {
			t.Errorf("stopped %q, want %q", did.all, want)
		}
	})
}

func TestPartsThatNeverRunAreDiscarded(t *testing.T) {
	var did steps
	broken := errors.New("it broke")
	failing := part{name: "admin", stops: stopAdmin, discard: func() error { return broken }}
	err := discardParts([]part{did.part("store", stopStore), failing, {name: "calls", stops: stopCalls}, did.part("relay", stopRelay)})
	if want := []string{"discard relay", "discard store"}; !errors.Is(err, broken) || !slices.Equal(did.all, want) {
		t.Errorf("did %q, error %v; want %q and %v", did.all, err, want, broken)
	}
}
