// Package feed is how a server tells relays that stand alone of its calls: what each party has shown, that a call is for
// relayed addresses only, that it ended; and how they tell back what they relayed for it. It is not TURN, and no bus between
// servers: it comes to a relay's TURN port as one more TCP or TLS connection, with a first byte that TURN does not have.
//
// Way in: a server makes a [Feed] and runs it, a relay calls [Accept] (see conn.go for what is on the wire).
//
//	switchboard ─▶ Feed: what is known of each call ─▶ a link to each relay ─▶ frames of what changed ─▶ relay
//	                     bytes, by relay ◀──────────────────────── what each call has relayed ◀──────────┘
//
// What is sent of a call is all that is known of it, so that nothing has to be queued: a link keeps which calls have
// changed, and one that comes back begins with all of them. Losing it ends no call, for the relay keeps what it knows.
package feed

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Call is what a relay is to know of one. Fields that are not there say nothing.
type Call struct {
	ID string `json:"id"`
	// Shown are the addresses that each party has shown to the other one, oldest first.
	Shown map[string][]netip.Addr `json:"shown,omitempty"`
	// RelayOnly is whether the parties may reach relayed addresses only.
	RelayOnly *bool `json:"relayOnly,omitempty"`
	Ended     bool  `json:"ended,omitempty"`
}

// News is what a server sends: each second, or when there is some.
type News struct {
	// Relays are the addresses of all relays of this installation, which count as relayed in relay-only calls.
	Relays []netip.Addr `json:"relays,omitempty"`
	Calls  []Call       `json:"calls,omitempty"`
}

// Report is what a relay sends: one before all, then at least one for each News.
type Report struct {
	// Relay is what this one is called for as long as its process lives; only in the first.
	Relay string `json:"relay,omitempty"`
	// Usage is of live calls of which this server has spoken, where it is not what was reported last.
	Usage []Usage `json:"usage,omitempty"`
}

// Usage is what a relay has relayed for a call so far, both ways.
type Usage struct {
	Call  string `json:"call"`
	Bytes uint64 `json:"bytes"`
}

const (
	// Beat is how often something is sent at least, and usage told at most.
	Beat = time.Second
	// Patience is how long either end waits for the other before it hangs up.
	Patience = 10 * time.Second

	// mostShown is as at the relay: 100 candidates an epoch name few addresses.
	mostShown = 64
	// endedLife is how long links that come up are told of an ended call: as long as credentials live that were issued for
	// it, and some. mostEnded bounds how many those are.
	endedLife = 65 * time.Minute
	mostEnded = 10_000
)

// Config is what a Feed is made of.
type Config struct {
	Relays     []URL               // that stand alone
	Secret     []byte              // as the relays have
	Addresses  func() []netip.Addr // of all relays of this installation, at the moment; nil for none
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
}

// A Feed tells relays of calls. Its methods may be called by any goroutine, and do not block.
type Feed struct {
	cfg   Config
	links []*link
	up    *prometheus.GaugeVec

	mu    sync.Mutex
	calls map[string]*known // guarded by mu
	ended []string          // guarded by mu: in the order of their ends
}

// known is what is known of a call. Guarded by Feed.mu.
type known struct {
	Call
	endedAt time.Time
	bytes   map[string]uint64 // by relay
}

// New is a Feed whose links are not up before Run.
func New(cfg Config) (*Feed, error) {
	f := &Feed{cfg: cfg, calls: make(map[string]*known), up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "visavis_feed_up", Help: "Whether a relay that stands alone is told of calls.",
	}, []string{"relay"})}
	for _, url := range cfg.Relays {
		l := newLink(f, url)
		if !slices.ContainsFunc(f.links, func(o *link) bool { return o.address == l.address }) {
			f.links = append(f.links, l)
			f.up.WithLabelValues(l.address).Set(0)
		}
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(f.up); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Run keeps the links up until ctx is done, and tells what is left to be told then. It is called once.
func (f *Feed) Run(ctx context.Context) error {
	var links sync.WaitGroup
	for _, l := range f.links {
		links.Go(func() { l.keep(ctx) })
	}
	links.Wait()
	return nil
}

// Permit says that a party has shown addresses to the other one.
func (f *Feed) Permit(call, party string, addrs ...netip.Addr) {
	f.change(call, func(k *known) bool {
		list := k.Shown[party]
		was := len(list)
		for _, addr := range addrs {
			if addr.IsValid() && !slices.Contains(list, addr) {
				list = append(list, addr)
			}
		}
		if len(list) == was {
			return false
		}
		if k.Shown == nil {
			k.Shown = make(map[string][]netip.Addr, 2)
		}
		k.Shown[party] = list[max(0, len(list)-mostShown):]
		return true
	})
}

// RelayOnly says whether the parties of a call may reach relayed addresses only.
func (f *Feed) RelayOnly(call string, on bool) {
	f.change(call, func(k *known) bool {
		k.RelayOnly = &on
		return true
	})
}

// Know has relays tell what they relay for a call of which nothing else is known: one that an earlier process began.
func (f *Feed) Know(call string) { f.change(call, func(*known) bool { return true }) }

// EndCall has all relays end a call, and returns how many bytes they have relayed for it so far as they have told: what
// came within the last second is not in it.
func (f *Feed) EndCall(call string) (bytes uint64) {
	now := time.Now()
	f.change(call, func(k *known) bool {
		k.Shown, k.RelayOnly, k.Ended, k.endedAt = nil, nil, true, now
		f.ended = append(f.ended, call)
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.calls[call].bytes {
		bytes += n
	}
	for len(f.ended) > mostEnded || len(f.ended) > 0 && now.Sub(f.calls[f.ended[0]].endedAt) > endedLife {
		delete(f.calls, f.ended[0])
		f.ended = f.ended[1:]
	}
	return bytes
}

// change changes a call that has not ended, and has it told where that was a change.
func (f *Feed) change(call string, change func(*known) bool) {
	if f.note(call, change) {
		for _, l := range f.links {
			l.wake()
		}
	}
}

// note changes what is known of a call that has not ended, and reports whether links have to tell it.
func (f *Feed) note(call string, change func(*known) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.calls[call]
	if k == nil {
		k = &known{Call: Call{ID: call}, bytes: make(map[string]uint64)}
		f.calls[call] = k
	}
	if k.Ended || !change(k) {
		return false
	}
	for _, l := range f.links {
		if l.news != nil {
			l.news[call] = struct{}{}
		}
	}
	return true
}

// begin has l tell of all calls: the relay may be one that knows of none.
func (f *Feed) begin(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.news = make(map[string]struct{}, len(f.calls))
	for id := range f.calls {
		l.news[id] = struct{}{}
	}
}

// take is what to tell next, a frame of it at most; nothing is left to tell when it is nil.
func (f *Feed) take(l *link) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var calls []Call
	weight := 0 // in addresses: 42 bytes each at most; a call with its names has some 300, so that a frame has 24 KB
	for id := range l.news {
		delete(l.news, id)
		if k := f.calls[id]; k != nil { // else it has been over for long
			c := k.Call
			c.Shown = maps.Clone(c.Shown)
			weight += 8
			for _, list := range c.Shown {
				weight += len(list)
			}
			calls = append(calls, c)
		}
		if weight > 512 {
			break
		}
	}
	return calls
}

// heed notes what a relay reports.
func (f *Feed) heed(relay string, r *Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range r.Usage {
		if k := f.calls[u.Call]; k != nil {
			k.bytes[relay] = u.Bytes
		}
	}
}

// end has l keep no list: it will begin with all of it.
func (f *Feed) end(l *link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.news = nil
}
