package node

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/internal/relay/feed"
)

const (
	// resolveEvery is how often the names of other relays are looked up: a relay
	// that moved has its calls lost anyway, new ones need it within a minute.
	resolveEvery = time.Minute
	// resolveWithin bounds one look-up of all of them.
	resolveWithin = 5 * time.Second
)

// otherRelays are the IP addresses of the relays that stand alone, by which
// relay-only calls recognize relayed addresses.
type otherRelays struct {
	urls     []feed.URL
	log      *slog.Logger
	resolve  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	resolved atomic.Pointer[map[string][]netip.Addr] // by host; replaced as a whole
}

func newOtherRelays(urls []feed.URL, log *slog.Logger) *otherRelays {
	o := &otherRelays{urls: urls, log: log, resolve: net.DefaultResolver.LookupNetIP}
	o.resolved.Store(&map[string][]netip.Addr{})
	return o
}

// addresses are those known by now.
func (o *otherRelays) addresses() []netip.Addr {
	var all []netip.Addr
	for _, url := range o.urls {
		for _, ip := range (*o.resolved.Load())[url.Host] {
			if !slices.Contains(all, ip) {
				all = append(all, ip)
			}
		}
	}
	return all
}

// look looks all names up once. A name that has no address now keeps those that it
// had.
func (o *otherRelays) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	before, now := *o.resolved.Load(), map[string][]netip.Addr{}
	for _, url := range o.urls {
		if _, looked := now[url.Host]; looked {
			continue
		}
		found, err := o.resolve(ctx, "ip", url.Host)
		if err != nil {
			now[url.Host] = before[url.Host]
			if ctx.Err() == nil || len(before[url.Host]) == 0 {
				o.log.Warn("a relay's name has no address: calls that hide addresses cannot use it", "relay", url.String(), "error", err)
			}
			continue
		}
		for _, ip := range found {
			now[url.Host] = append(now[url.Host], ip.Unmap())
		}
	}
	o.resolved.Store(&now)
}

// run looks the names up again and again until ctx is done, and tells what is
// there.
func (o *otherRelays) run(ctx context.Context, told func([]netip.Addr)) error {
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			o.look(ctx)
			told(o.addresses())
		}
	}
}
