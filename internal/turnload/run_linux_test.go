package turnload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = bytes.Repeat([]byte("s"), 32)

// serve runs a relay of ours until the test ends.
func serve(t *testing.T, cfg relay.Config) netip.AddrPort {
	t.Helper()
	listener, err := relay.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener, cfg.Secrets = listener, [][]byte{secret}
	s, err := relay.New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s.Addr()
}

func credentials(leg int) (username, password string) {
	c := relay.Issue(secret, fmt.Sprint("user ", leg), "", "", time.Now(), time.Hour)
	return c.Username, c.Password
}

// small is a load that a machine which does other things, too, has no trouble with.
func small(server netip.AddrPort) Config {
	return Config{
		Load:   Load{Name: "small", Legs: 4, Rate: 100, Size: 200, BurstMin: 1, BurstMax: 1},
		Server: server, Credentials: credentials, WarmUp: 100 * time.Millisecond, Measure: 400 * time.Millisecond,
	}
}

func TestRun(t *testing.T) {
	server := serve(t, relay.Config{})
	for _, test := range []struct {
		name   string
		change func(*Config)
		up     bool // nothing else
	}{
		{name: "single packets", change: func(*Config) {}},
		{name: "bursts", change: func(c *Config) { c.BurstMin, c.BurstMax = 5, 15 }},
		{name: "bursts in one piece", change: func(c *Config) { c.BurstMin, c.BurstMax, c.GSO = 5, 15, true }},
		{name: "the smallest packets", change: func(c *Config) { c.Size = payloadHeader }},
		{name: "large packets", change: func(c *Config) { c.Size = 1200 }},
		{name: "pairs", change: func(c *Config) { c.Pair = true }, up: true},
		{name: "two threads", change: func(c *Config) { c.Threads = 2 }},
		{name: "more threads than legs", change: func(c *Config) { c.Legs, c.Threads = 2, 4 }},
		{name: "pairs on two threads", change: func(c *Config) { c.Legs, c.Pair, c.Threads = 6, true, 2 }, up: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := small(server)
			cfg.PID = os.Getpid()
			test.change(&cfg)
			r, err := Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(cfg.Rate*0.4) * int64(cfg.senders()); r.Offered != want {
				t.Errorf("offered %d, want %d", r.Offered, want)
			}
			// A burst of each sender more, at most; how many less is this machine's business.
			if most := r.Offered*2 + int64(cfg.BurstMax*cfg.senders()); r.Sent == 0 || r.Sent > most {
				t.Errorf("sent %d of %d", r.Sent, r.Offered)
			}
			if r.Received != r.Sent || r.Loss != 0 || r.Foreign != 0 {
				t.Errorf("received %d of %d, loss %v, foreign %d; want all", r.Received, r.Sent, r.Loss, r.Foreign)
			}
			if r.Up+r.Down != r.Received || r.Up == 0 || test.up != (r.Down == 0) {
				t.Errorf("up %d, down %d of %d", r.Up, r.Down, r.Received)
			}
			l := r.Latency
			if !slices.IsSorted([]float64{1, l.P50Us, l.P90Us, l.P99Us, l.MaxUs, 2e6}) {
				t.Errorf("latency %+v, want some µs and more with each percentile", l)
			}
			if p := r.Server; p == nil || p.RSS < 1<<20 || p.RSSBefore < 1<<20 || p.CPU < 0 || p.CPU > 64 {
				t.Errorf("server %+v", p)
			}
		})
	}
}

// What a server does not relay is seen as lost.
func TestRunSeesLoss(t *testing.T) {
	cfg := small(serve(t, relay.Config{PacketRate: 20}))
	cfg.Rate, cfg.WarmUp = 400, 300*time.Millisecond // which uses up the burst of a second
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Loss < 0.5 || r.Received >= r.Sent {
		t.Errorf("lost %v: %d of %d received; want 5 %% of them", r.Loss, r.Received, r.Sent)
	}
}

func TestRunOnlyAllocates(t *testing.T) {
	cfg := small(serve(t, relay.Config{ChallengeBurst: 2, ChallengeRate: 1}))
	cfg.Legs, cfg.Rate, cfg.Measure = 20, 0, time.Millisecond
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 0 || r.Received != 0 || r.AllocateMs <= 0 || r.Server != nil {
		t.Errorf("got %+v", r)
	}
}

// Legs end their allocations: else the second run has no room.
func TestRunGivesBack(t *testing.T) {
	server := serve(t, relay.Config{MaxAllocations: 4})
	for range 3 {
		cfg := small(server)
		cfg.Measure = 50 * time.Millisecond
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var err error
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); <-tick.C {
			if _, err = Run(t.Context(), cfg); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunTellsProgress(t *testing.T) {
	cfg := small(serve(t, relay.Config{}))
	cfg.Measure = 1400 * time.Millisecond
	var told []Progress
	cfg.Progress = func(p Progress) { told = append(told, p) }
	if _, err := Run(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if len(told) < 2 {
		t.Fatalf("told %d times, want each half second", len(told))
	}
	last := told[len(told)-1]
	if last.Sent <= 0 || last.Received <= 0 || last.P50 <= 0 || last.P99 < last.P50 || !last.Measuring || last.Allocated != 4 {
		t.Errorf("got %+v", last)
	}
}

func TestRunRefused(t *testing.T) {
	cfg := small(serve(t, relay.Config{UserAllocations: 1}))
	right := cfg.Credentials
	cfg.Credentials = func(leg int) (string, string) {
		username, _ := right(leg)
		return username, "wrong"
	}
	var refused *RefusedError
	if _, err := Run(t.Context(), cfg); !errors.As(err, &refused) || refused.Method != "Allocate" || refused.Leg != 0 ||
		refused.Code != 400 && refused.Code != 401 && refused.Code != 441 {
		t.Errorf("with a wrong password: %v", err)
	}
	cfg.Credentials = func(int) (string, string) { return right(1) }
	if _, err := Run(t.Context(), cfg); !errors.As(err, &refused) || refused.Code != 486 || refused.Leg != 1 {
		t.Errorf("with one user for two allocations: %v", err)
	}
}

func TestRunWithoutServer(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, small(nobody)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a server that says nothing, until the context ends: %v", err)
	}
	_ = conn.Close()
	if _, err := Run(t.Context(), small(nobody)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v", err)
	}
	cfg := small(nobody)
	cfg.PID = 1 << 30
	if _, err := Run(t.Context(), cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the process: %v", err)
	}
}

func TestRunEndsWithContext(t *testing.T) {
	cfg := small(serve(t, relay.Config{}))
	cfg.Measure = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = func(Progress) { cancel() }
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was canceled", err)
	}
}

// A long run outlives the server's nonce.
func TestRenewWithStaleNonce(t *testing.T) {
	l, err := openLeg(t.Context(), small(serve(t, relay.Config{})), 0)
	defer l.close()
	if err == nil {
		err = l.bindPeer(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	good := l.nonce
	l.nonce = []byte("stale")
	l.renew()
	renewed := map[stun.Method]bool{}
	for deadline := time.Now().Add(5 * time.Second); len(renewed) < 2 && time.Now().Before(deadline); {
		response, err := receive(t.Context(), l.client, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if response == nil {
			continue
		}
		if response.Type.Class == stun.ClassSuccessResponse {
			renewed[response.Type.Method] = true
		} else if err := l.answered(response.Raw); err != nil {
			t.Fatal(err)
		}
	}
	if !renewed[stun.MethodRefresh] || !renewed[stun.MethodChannelBind] || bytes.Equal(l.nonce, []byte("stale")) {
		t.Errorf("renewed %v with nonce %q, at first %q", renewed, l.nonce, good)
	}
}

func TestRing(t *testing.T) {
	r := newRing(10, []time.Duration{7, 2, 2})
	var got []string
	for range 7 {
		due := r.due()
		got = append(got, fmt.Sprint(int64(due), ":", r.take()))
	}
	want := []string{"2:1", "2:2", "7:0", "12:1", "12:2", "17:0", "22:1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	none := newRing(10, nil)
	if none.due() < time.Duration(1<<62) {
		t.Errorf("without members the next is due at %v", none.due())
	}
}

// What stands in the wrong packet, or came to the wrong socket, is not counted as received.
func TestForeignPackets(t *testing.T) {
	now := time.Now()
	cfg := small(netip.AddrPort{})
	packet := func(run, flow uint32, size int) []byte {
		b := make([]byte, channelHeader+size)
		channelData(b, size)
		stamp(b[channelHeader:], run, flow, now)
		return b
	}
	changed := func(b []byte, at int, to byte) []byte { b[at] = to; return b }
	for _, test := range []struct {
		name    string
		packet  []byte
		counted bool
	}{
		{"ours", packet(7, 5, cfg.Size), true},
		{"another run's", packet(8, 5, cfg.Size), false},
		{"another flow's", packet(7, 4, cfg.Size), false},
		{"a short one", packet(7, 5, cfg.Size-1), false},
		{"another channel's", changed(packet(7, 5, cfg.Size), 1, 1), false},
		{"one whose header lies", changed(packet(7, 5, cfg.Size), 3, 1), false},
		{"an empty one", []byte{}, false},
	} {
		from, to := socketPair(t)
		w := newWorker(cfg, 7, nil, 0)
		if _, err := syscall.Write(from, test.packet); err != nil {
			t.Fatal(err)
		}
		s := schedule{from: now.Add(-time.Second), to: now.Add(time.Second)}
		if err := w.receive(&sink{fd: to, flow: 5, dir: down, framed: true, leg: &leg{}}, s); err != nil {
			t.Fatal(err)
		}
		counted := w.window.received[down] == 1 && w.all.received[down] == 1 && w.all.foreign == 0
		foreign := w.window.received[down] == 0 && w.all.foreign == 1
		if counted != test.counted || foreign == test.counted {
			t.Errorf("%s: window %v, all %v, foreign %d", test.name, w.window.received, w.all.received, w.all.foreign)
		}
	}
}

// socketPair are two sockets on loopback, from one to the other.
func socketPair(t *testing.T) (from, to int) {
	t.Helper()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	anywhere := netip.AddrPortFrom(loopback, 9)
	to, err := dial(loopback, anywhere)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(to) })
	at, err := localAddress(to)
	if err != nil {
		t.Fatal(err)
	}
	if from, err = dial(loopback, at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(from) })
	back, err := localAddress(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Connect(to, &syscall.SockaddrInet4{Addr: back.Addr().As4(), Port: int(back.Port())}); err != nil {
		t.Fatal(err)
	}
	return from, to
}
