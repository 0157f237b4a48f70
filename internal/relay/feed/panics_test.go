package feed

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/internal/panics"
)

// A link that panics is tried again.
func TestALinkThatPanicsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := New(Config{Relays: []URL{turn(t, "turn:192.0.2.1")}, Secret: []byte("secret"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		before, tries := panics.Count(inFeed), 0
		f.links[0].dial = func(context.Context) (net.Conn, error) {
			if tries++; tries == 1 {
				panic("planted by a test")
			}
			return nil, net.ErrClosed
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if tries < 2 || panics.Count(inFeed)-before != 1 {
			t.Errorf("tried %d times, counted %d panics", tries, panics.Count(inFeed)-before)
		}
	})
}
