package main

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/turnload"
)

const benchSecret = "north by northwest"

// relayServed runs a relay until the test ends.
func relayServed(t *testing.T) string {
	t.Helper()
	listener, err := relay.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := relay.New(relay.Config{Listener: listener, Secrets: [][]byte{node.RelayKey(benchSecret)}}, nil, nil)
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
	return s.Addr().String()
}

func TestBenchRelay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures.json")
	var stdout, stderr strings.Builder
	err := run(t.Context(), []string{
		"bench", "relay", "--server", relayServed(t), "--secret", benchSecret, "--legs", "3", "--rate", "50", "--size", "100",
		"--burst", "1-2", "--seconds", "0.4", "--warm-up", "0.1", "--pid", strconv.Itoa(os.Getpid()), "--json", file,
	}, &stdout, &stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^load +smooth: 3 legs, each a client and a peer$`,
		`(?m)^ +50 packets/s from each end, 100 bytes, bursts of 1 to 2$`,
		`(?m)^window +0\.4 s after 0\.1 s$`,
		`(?m)^sent +\d+ of 120$`,
		`(?m)^received +\d+ up, \d+ down: \d+ packets/s$`,
		`(?m)^lost +0: 0 %$`,
		`(?m)^latency +p50 \d+ µs, p90 \d+ µs, p99 \d+ µs, most \d+ µs$`,
		`(?m)^server +\d+\.\d\d µs of CPU a packet, `,
		`(?m)^memory +\d+\.\d MB, before \d+\.\d MB: `,
		`(?m)^generator +\d`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout.String()) {
			t.Errorf("no %s in:\n%s", want, &stdout)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("a live line where there is no terminal: %q", &stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r turnload.Result
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Sent == 0 || r.Received != r.Sent || r.Up == 0 || r.Down == 0 || r.Offered != 120 || r.Server == nil || r.Load.Legs != 3 {
		t.Errorf("got %+v", r)
	}
}

func TestBenchRelayRefused(t *testing.T) {
	server := relayServed(t)
	for _, args := range [][]string{
		{"--secret", "another one"},
		{"--secret", benchSecret, "--secret-format", "coturn"},
		{"--user", "anna", "--password", "wrong"},
	} {
		var stdout, stderr strings.Builder
		err := run(t.Context(), append([]string{"bench", "relay", "--server", server}, args...), &stdout, io.Discard)
		if status := report(err, &stderr); status != 1 {
			t.Errorf("%v: status %d, want 1", args, status)
		}
		if !regexp.MustCompile(`^visavis: leg 1: the server refuses Allocate: 40[01].*\nhint: these credentials are not the server's`).
			MatchString(stderr.String()) || stdout.Len() > 0 {
			t.Errorf("%v:\n%s%s", args, &stdout, &stderr)
		}
	}
}

func TestBenchRelayConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("kept\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	legs, pair, rate, size, burst := 6, true, 12.5, 77, "3-9"
	now := time.Unix(1_800_000_000, 0)
	given := benchRelay{
		Server: "[::ffff:127.0.0.1]:3478", SecretFile: file, SecretFormat: "coturn", Load: "audio",
		Legs: &legs, Pair: &pair, Rate: &rate, Size: &size, Burst: &burst, GSO: true, Seconds: 1.5, WarmUp: 0.25, Threads: 2, PID: 42,
	}
	got, err := given.config(now)
	if err != nil {
		t.Fatal(err)
	}
	username, password := got.Credentials(3)
	wantName, wantPassword := turnload.RESTCredentials("kept", "load-3", now.Add(time.Hour))
	if username != wantName || password != wantPassword {
		t.Errorf("credentials %q, %q; want %q, %q", username, password, wantName, wantPassword)
	}
	got.Credentials = nil
	want := turnload.Config{
		Load:   turnload.Load{Name: "audio", Legs: 6, Pair: true, Rate: 12.5, Size: 77, BurstMin: 3, BurstMax: 9},
		Server: netip.MustParseAddrPort("127.0.0.1:3478"), WarmUp: 250 * time.Millisecond, Measure: 1500 * time.Millisecond,
		Threads: 2, GSO: true, PID: 42,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestLiveLine(t *testing.T) {
	cfg := turnload.Config{Load: turnload.Load{Legs: 40}, WarmUp: time.Second, Measure: 10 * time.Second, PID: 1}
	for _, c := range []struct {
		progress turnload.Progress
		want     string
	}{
		{turnload.Progress{Allocated: 7}, "7 of 40 allocations"},
		{
			turnload.Progress{
				Elapsed: 3 * time.Second, Measuring: true, Sent: 40_000, Received: 39_999, Lost: 0.0123,
				P50: 45 * time.Microsecond, P99: 1500 * time.Microsecond, CPU: 0.5, RSS: 20_500_000,
			},
			"3.0 of 11 s  relayed 39999/s  lost 1.23 %  p50 45 µs  p99 1500 µs  CPU 50 %  20.5 MB",
		},
		{turnload.Progress{Elapsed: time.Second}, "warming up  relayed 0/s  lost 0.00 %  p50 0 µs  p99 0 µs  CPU 0 %  0.0 MB"},
	} {
		if got := liveLine(cfg, c.progress); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
