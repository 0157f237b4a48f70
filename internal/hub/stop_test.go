package hub

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

// TestAStopWaitsForTheLastWordOnly: it takes as long as clients take what it says, a second at most, and leaves no
// goroutine behind.
func TestAStopWaitsForTheLastWordOnly(t *testing.T) {
	for name, stuck := range map[string]bool{"a client that reads": false, "a client that does not": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h, err := New(Config{Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				h.Handle(new(fakeHandler))
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { defer close(ended); _ = h.Run(ctx) }()
				_, w := come(t, h, "ann", protocol.Hello{})
				pass(time.Second)
				want := time.Duration(0)
				if stuck {
					want = stopTimeout
					w.mu.Lock()
					w.stuck = make(chan struct{})
					w.mu.Unlock()
				}
				began := time.Now()
				cancel()
				<-ended
				if took := time.Since(began); took != want {
					t.Errorf("the stop took %v, want %v", took, want)
				}
				if got := w.closed(); got != protocol.CloseRestarting {
					t.Errorf("closed with %d", got)
				}
			})
		})
	}
}
