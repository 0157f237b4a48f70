package node_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
)

// TestARelayAlone asks a relay without the rest where a packet came from.
func TestARelayAlone(t *testing.T) {
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Listen, cfg.Relay.Secret = "127.0.0.1:0", "127.0.0.1:0", "correct horse battery"
	ctx, cancel := context.WithCancel(t.Context())
	urls := make(chan []string, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- node.RunRelay(ctx, cfg, slog.New(slog.DiscardHandler), func(at []string) { urls <- at })
	}()
	var at []string
	select {
	case at = <-urls:
	case err := <-ended:
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", strings.TrimPrefix(at[0], "stun:"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A Binding request without attributes (RFC 8489 §5).
	if _, err := conn.Write([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	if err != nil || n < 32 || string(answer[:2]) != "\x01\x01" || string(answer[8:20]) != "twelve bytes" {
		t.Errorf("answer %x, %v", answer[:n], err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestARelayAloneRefuses(t *testing.T) {
	for name, change := range map[string]func(*node.Config){
		"no secret":        func(*node.Config) {},
		"TLS without any":  func(c *node.Config) { c.Relay.Secret, c.Relay.TLSListen = "correct horse battery", ":5349" },
		"waiting too long": func(c *node.Config) { c.Relay.Secret, c.Relay.CoalesceMicroseconds = "correct horse battery", 10_000 },
	} {
		cfg := node.DefaultConfig()
		cfg.Listen, cfg.Relay.Listen = "127.0.0.1:0", "127.0.0.1:0"
		change(&cfg)
		err := node.RunRelay(t.Context(), cfg, slog.New(slog.DiscardHandler), func([]string) { t.Error("it runs:", name) })
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
