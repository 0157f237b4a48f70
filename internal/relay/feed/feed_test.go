package feed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// A fakeRelay keeps what it is told, and reports what a test wants. It is used inside synctest, where nothing runs while
// the test looks.
type fakeRelay struct {
	t      *testing.T
	silent bool // takes news, but reports nothing

	mu    sync.Mutex
	id    string  // guarded by mu
	away  bool    // guarded by mu: nobody answers
	usage []Usage // guarded by mu: for the next report
	seen  seen    // guarded by mu
}

// seen is what a relay was told.
type seen struct {
	conn   net.Conn
	dials  int
	relays []netip.Addr
	calls  map[string]Call // since the last dial
	told   []string        // their ids, in the order of news
}

func (d *fakeRelay) saw() seen {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.seen
	s.calls = maps.Clone(s.calls)
	return s
}

func (d *fakeRelay) setAway(away bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away = away
}

func (d *fakeRelay) setID(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.id = id
}

func (d *fakeRelay) report(usage ...Usage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.usage = usage
}

// dial is the way to it.
func (d *fakeRelay) dial(context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen.dials++
	if d.away {
		return nil, errors.New("nobody is there")
	}
	near, far := net.Pipe()
	d.seen.conn, d.seen.calls, d.seen.told = far, make(map[string]Call), nil
	go d.heed(far, d.id)
	return near, nil
}

func (d *fakeRelay) heed(far net.Conn, id string) {
	defer far.Close()
	conn, err := Accept(far, bufio.NewReader(far), [][]byte{secret}, &Report{Relay: id})
	if err != nil {
		d.t.Error(err)
		return
	}
	for {
		var news News
		if conn.Receive(&news) != nil {
			return
		}
		if report := d.take(&news); !d.silent && conn.Send(report) != nil {
			return
		}
	}
}

func (d *fakeRelay) take(news *News) *Report {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen.relays = append(d.seen.relays, news.Relays...)
	report := &Report{Usage: d.usage}
	d.usage = nil
	for _, c := range news.Calls {
		d.seen.calls[c.ID] = c
		d.seen.told = append(d.seen.told, c.ID)
	}
	return report
}

// syncLog is a log that can be read while it is written.
type syncLog struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *syncLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// feeding runs a feed that tells these relays, until the function that it returns is called.
func feeding(t *testing.T, relays ...*fakeRelay) (f *Feed, log *syncLog, stop func()) {
	t.Helper()
	log = new(syncLog)
	cfg := Config{
		Secret: secret, Addresses: func() []netip.Addr { return addrs("192.0.2.1") },
		Log: slog.New(slog.NewTextHandler(log, nil)), Registerer: prometheus.NewRegistry(),
	}
	for i := range relays {
		cfg.Relays = append(cfg.Relays, turn(t, fmt.Sprintf("turn:relay%d:3478?transport=udp", i)), turn(t, fmt.Sprintf("turn:relay%d?transport=tcp", i)))
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.links) != len(relays) {
		t.Fatalf("%d links to %d relays", len(f.links), len(relays))
	}
	for i, d := range relays {
		d.t = t
		f.links[i].dial = d.dial
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.Run(ctx)
	}()
	synctest.Wait()
	return f, log, func() {
		cancel()
		<-ended
		synctest.Wait()
	}
}

// up is what the metric of the only relay says.
func up(t *testing.T, f *Feed) float64 {
	t.Helper()
	families, err := f.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 1 {
		t.Fatal(families, err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

func addrs(list ...string) (out []netip.Addr) {
	for _, text := range list {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var no = false

func TestChangesAreToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeRelay{id: "a"}
		f, log, stop := feeding(t, d)
		defer stop()
		begun := time.Now()
		f.RelayOnly("call", true)
		f.Permit("call", "ann", addrs("192.0.2.2")...)
		f.Permit("call", "bob", append(addrs("192.0.2.3", "192.0.2.3"), netip.Addr{})...)
		synctest.Wait()
		f.Permit("call", "bob", addrs("2001:db8::3")...)
		f.RelayOnly("call", false)
		synctest.Wait()
		want := Call{ID: "call", RelayOnly: &no, Shown: map[string][]netip.Addr{"ann": addrs("192.0.2.2"), "bob": addrs("192.0.2.3", "2001:db8::3")}}
		if diff := cmp.Diff(want, d.saw().calls["call"], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		if !slices.Equal(d.saw().relays, addrs("192.0.2.1")) {
			t.Errorf("relays: %v", d.saw().relays)
		}
		told := len(d.saw().told)
		f.Permit("call", "bob", addrs("192.0.2.3")...)
		synctest.Wait()
		if len(d.saw().told) != told {
			t.Error("what is no change is told")
		}
		f.EndCall("call")
		f.Permit("call", "bob", addrs("192.0.2.9")...) // late
		synctest.Wait()
		if got := d.saw().calls["call"]; !got.Ended || got.Shown != nil || got.RelayOnly != nil {
			t.Errorf("at the end: %+v", got)
		}
		if time.Since(begun) != 0 {
			t.Errorf("it took %s", time.Since(begun))
		}
		if got := up(t, f); got != 1 {
			t.Errorf("up: %v", got)
		}
		pass(time.Minute) // in which nothing happens
		if d.saw().dials != 1 {
			t.Errorf("%d dials, want a link that stays", d.saw().dials)
		}
		if !strings.Contains(log.String(), `msg="a relay is told of calls" relay=relay0:3478`) {
			t.Errorf("log: %s", log)
		}
	})
}

func TestALinkBeginsWithAllThatIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeRelay{id: "a", away: true}
		f, log, stop := feeding(t, d)
		defer stop()
		f.Permit("lives", "ann", addrs("192.0.2.2")...)
		f.Know("restored")
		f.Permit("ends", "ann", addrs("192.0.2.2")...)
		f.EndCall("ends")
		pass(time.Minute)
		if n := d.saw().dials; n < 15 || n > 50 {
			t.Errorf("%d tries in a minute", n)
		}
		if n := strings.Count(log.String(), "is not told of calls"); n != 1 {
			t.Errorf("%d lines in the log, want one:\n%s", n, log)
		}
		if got := up(t, f); got != 0 {
			t.Errorf("up: %v", got)
		}
		back := func(id string, want ...string) {
			t.Helper()
			d.setID(id)
			d.setAway(false)
			pass(2 * latest)
			if got := slices.Sorted(slices.Values(d.saw().told)); !slices.Equal(got, want) {
				t.Errorf("told %v, want %v", got, want)
			}
		}
		back("a", "ends", "lives", "restored")
		if got := d.saw().calls["restored"]; got.Shown != nil || got.RelayOnly != nil {
			t.Errorf("of a call that only its id is known of: %+v", got)
		}

		// The connection breaks. Meanwhile something else ends.
		d.setAway(true)
		_ = d.saw().conn.Close()
		synctest.Wait()
		f.EndCall("restored")
		back("a", "ends", "lives", "restored")
		if got := d.saw().calls["restored"]; !got.Ended {
			t.Errorf("of a call that ended meanwhile: %+v", got)
		}
		if n := strings.Count(log.String(), "level=INFO"); n != 2 {
			t.Errorf("%d lines of success, want one for each time:\n%s", n, log)
		}

		// What ended is forgotten when nobody has credentials any more.
		pass(endedLife + time.Minute)
		f.EndCall("last")
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.calls) != 2 || f.calls["last"] == nil || f.calls["lives"] == nil {
			t.Errorf("still known: %v", f.calls)
		}
	})
}

func TestUsageIsByRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The first two are one relay at two addresses.
		a, same, b := &fakeRelay{id: "a"}, &fakeRelay{id: "a"}, &fakeRelay{id: "b"}
		f, _, stop := feeding(t, a, same, b)
		defer stop()
		f.Know("call")
		for _, d := range []*fakeRelay{a, same, b} {
			d.report(Usage{Call: "call", Bytes: 100}, Usage{Call: "nobody's", Bytes: 7})
		}
		pass(2 * Beat)
		b.report(Usage{Call: "call", Bytes: 150})
		pass(2 * Beat)
		// One starts anew, and begins at nothing.
		_ = b.saw().conn.Close()
		b.setID("b2")
		pass(2 * latest)
		b.report(Usage{Call: "call", Bytes: 11})
		pass(2 * Beat)
		if got := f.EndCall("call"); got != 100+150+11 {
			t.Errorf("%d bytes, want 261", got)
		}
		if got := f.EndCall("unheard of"); got != 0 {
			t.Errorf("%d bytes of a call that nobody knows", got)
		}
	})
}

func TestARelayThatSaysNothingIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeRelay{id: "a", silent: true}
		_, log, stop := feeding(t, d)
		defer stop()
		pass(Patience - time.Millisecond)
		if d.saw().dials != 1 {
			t.Errorf("given up before %s", Patience)
		}
		pass(2 * soonest)
		if d.saw().dials != 2 || !strings.Contains(log.String(), "out of reach") {
			t.Errorf("%d dials; log: %s", d.saw().dials, log)
		}
	})
}

// A server that stops says first what has ended.
func TestLastWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeRelay{id: "a"}
		f, _, stop := feeding(t, d)
		for i := range 1000 {
			f.EndCall(fmt.Sprint(i))
		}
		stop()
		if len(d.saw().calls) != 1000 {
			t.Errorf("%d calls of 1000 are told of", len(d.saw().calls))
		}
	})
}

func TestFeedsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeRelay{id: "a", away: true}
		f, _, stop := feeding(t, d)
		defer stop()
		var many []netip.Addr
		for i := range 2 * mostShown {
			many = append(many, netip.MustParseAddr(fmt.Sprintf("2001:db8:1111:2222:3333:4444:5555:%x", 0xf000+i)))
		}
		long := strings.Repeat("c", 120)
		for i := range 500 {
			call := fmt.Sprintf("%s-%d", long, i)
			f.Permit(call, long+"1", many[:i%mostShown]...)
			f.Permit(call, long+"2", many...)
		}
		for i := range mostEnded + 10 {
			f.EndCall(fmt.Sprint(i))
		}
		f.mu.Lock()
		kept := len(f.calls)
		f.mu.Unlock()
		if kept != 500+mostEnded {
			t.Errorf("%d calls are kept", kept)
		}
		d.setAway(false)
		pass(2 * latest)
		if len(d.saw().calls) != 500+mostEnded { // so that every frame was short enough
			t.Errorf("told of %d calls", len(d.saw().calls))
		}
		if got := d.saw().calls[long+"-0"].Shown[long+"2"]; !slices.Equal(got, many[mostShown:]) {
			t.Errorf("kept are %v", got)
		}
	})
}

// turn is a TURN URL that is right.
func turn(t testing.TB, text string) URL {
	t.Helper()
	u, err := ParseURL(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParseURL(t *testing.T) {
	for url, want := range map[string]string{
		"turn:relay.example":                  "relay.example:3478",
		"turns:relay.example?transport=tcp":   "relay.example:5349 relay.example",
		"turn:[2001:db8::1]:99?transport=udp": "[2001:db8::1]:99",
		"turns:192.0.2.1:443":                 "192.0.2.1:443 192.0.2.1",
		"turn:":                               "", "turn:%": "", "turn:relay.example:65536": "", "turn::3478": "", "stun:relay.example": "",
	} {
		u, err := ParseURL(url)
		var got string
		if err == nil {
			got = u.Address()
		}
		if u.Secure {
			got += " " + u.Host
		}
		if err == nil && u.String() != url {
			t.Errorf("%s is written as %s", url, u)
		}
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", url, got, err, want)
		}
	}
}
