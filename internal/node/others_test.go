package node

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/relay/feed"
)

// TestNamesOfRelaysAreFollowed: a relay whose name had no address at the start, or gets another one, counts as a relay
// within a minute; a name server that is away for a while takes none away.
func TestNamesOfRelaysAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOtherRelays([]feed.URL{{Host: "relay.example", Port: 3478}, {Host: "relay.example", Port: 5349, Secure: true}}, slog.New(slog.DiscardHandler))
		type answer func() ([]netip.Addr, error)
		var current atomic.Pointer[answer]
		none := answer(func() ([]netip.Addr, error) { return nil, errors.New("no network yet") })
		current.Store(&none)
		o.resolve = func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if host != "relay.example" {
				t.Errorf("asked for %q", host)
			}
			return (*current.Load())()
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o.look(ctx)
		told := make(chan []string, 1)
		go func() {
			_ = o.run(ctx, func(addrs []netip.Addr) {
				var texts []string
				for _, a := range addrs {
					texts = append(texts, a.String())
				}
				told <- texts
			})
		}()
		for _, step := range []struct {
			what   string
			answer answer
			want   []string
		}{
			{"no address yet", none, nil},
			{"an address", func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil }, []string{"192.0.2.1"}},
			{"no answer", func() ([]netip.Addr, error) { return nil, errors.New("timed out") }, []string{"192.0.2.1"}},
			{"another address", func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("2001:db8::1")}, nil }, []string{"2001:db8::1"}},
		} {
			current.Store(&step.answer)
			if diff := cmp.Diff(step.want, <-told); diff != "" {
				t.Errorf("%s: addresses (-want +got):\n%s", step.what, diff)
			}
		}
	})
}
