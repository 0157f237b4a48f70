package node_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
)

func TestMetricsAndProfilesAreTheOperators(t *testing.T) {
	n := nodetest.Start(t, nil)
	for path, want := range map[string]string{
		"/metrics":                       "visavis_sessions 0",
		"/healthz":                       "ok",
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/heap?debug=1":      "heap profile",
		"/debug/pprof/goroutine?debug=1": "goroutine profile",
	} {
		if status, body := get(t, n.AdminURL()+path, nil); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q does not have %q", path, status, body, want)
		}
		if path == "/healthz" {
			continue
		}
		if status, _ := get(t, n.URL()+path, nil); status != http.StatusNotFound {
			t.Errorf("%s of the public listener: %d", path, status)
		}
	}
	if status, _ := get(t, n.AdminURL()+"/debug/pprof/cmdline", nil); status != http.StatusNotFound {
		t.Errorf("the command line, which may have a password: %d", status)
	}
	if status := askAs(t, n.AdminURL()+"/metrics", "evil.example"); status != http.StatusMisdirectedRequest {
		t.Errorf("metrics by a name that resolves to loopback: %d", status)
	}
}

func TestARelayAloneHasMetrics(t *testing.T) {
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Listen, cfg.Admin.Listen, cfg.Relay.Secret = free, free, free, shared
	ctx, cancel := context.WithCancel(t.Context())
	at, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- node.RunRelay(ctx, cfg, slog.New(slog.DiscardHandler), func(_ []string, admin string) { at <- admin })
	}()
	select {
	case admin := <-at:
		if status, body := get(t, admin+"/metrics", nil); status != http.StatusOK || !strings.Contains(body, "visavis_relay") {
			t.Errorf("%d %q", status, body)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	case err := <-ended:
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	cfg.Admin.Listen = node.MustParseAddress(taken.Addr().String())
	err = node.RunRelay(t.Context(), cfg, slog.New(slog.DiscardHandler), func([]string, string) { t.Error("it runs") })
	if err == nil || !strings.Contains(err.Error(), "listen for metrics") {
		t.Errorf("an address that is taken: %v", err)
	}
}

// A page whose own name resolves to this server must not pass for the server's.
func TestForeignHostsAreRefused(t *testing.T) {
	url := nodetest.Start(t, func(c *node.Config) {
		c.Access, c.Origins = node.AccessOpen, urls(t, "https://app.example.org")
	}).URL()
	for host, want := range map[string]int{
		"evil.example": http.StatusMisdirectedRequest, "localhost.evil.example:8080": http.StatusMisdirectedRequest,
		"app.example.org.evil.example": http.StatusMisdirectedRequest, "127.0.0.1.evil.example": http.StatusMisdirectedRequest,
		"app.example.org": http.StatusOK, "APP.example.org.:443": http.StatusOK, "localhost": http.StatusOK,
		"localhost:1234": http.StatusOK, "192.168.1.5:8080": http.StatusOK, "[::1]:8080": http.StatusOK,
	} {
		for _, path := range []string{"/v1/place", "/readyz"} {
			if got := askAs(t, url+path, host); got != want {
				t.Errorf("%s of %s: got %d, want %d", path, host, got, want)
			}
		}
	}
}

// askAs asks for an address with a Host of the test's own, and tells the status.
func askAs(t *testing.T, address, host string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
