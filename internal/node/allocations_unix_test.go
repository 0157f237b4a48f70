//go:build unix

package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/protocol"
)

// heard is a log that can be read while it is written.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

func TestAllocationsAreListed(t *testing.T) {
	// One that nobody listens for ends a process.
	also := make(chan os.Signal, 1)
	signal.Notify(also, syscall.SIGUSR1)
	defer signal.Stop(also)
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		cfg := node.DefaultConfig()
		cfg.Listen, cfg.Relay.Listen, cfg.Relay.Secret = free, free, shared
		log := new(heard)
		ctx, cancel := context.WithCancel(t.Context())
		urls, ended := make(chan []string, 1), make(chan error, 1)
		go func() {
			ended <- node.RunRelay(ctx, cfg, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})), func(at []string, _ string) { urls <- at })
		}()
		credentials := relay.Issue(node.RelayKey(cfg.Relay.Secret), "uann", "n1-call", "uann", time.Now(), time.Hour)
		t.Run(level.String(), func(t *testing.T) {
			_, relayed := allocation(t, []protocol.ICEServer{{
				URLs: (<-urls)[1:], Username: credentials.Username, Credential: credentials.Password,
			}})
			port := netip.MustParseAddrPort(relayed.String()).Port()
			deadline := time.After(10 * time.Second)
			for !strings.Contains(log.String(), "msg=allocation ") {
				// The first may come before the relay listens for it.
				if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
					t.Fatal(err)
				}
				select {
				case <-deadline:
					t.Fatalf("no list: %s", log)
				case <-time.After(20 * time.Millisecond):
				}
			}
			_, line, _ := strings.Cut(log.String(), "msg=allocation ")
			line, _, _ = strings.Cut(line, "\n")
			for _, want := range []string{"user=uann", "call=n1-call", `client="udp IPv4"`, fmt.Sprintf("ports=[%d]", port), "bytesUp=0"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %s in %s", want, line)
				}
			}
			if got := strings.Contains(line, "127.0.0.1"); got != (level == slog.LevelDebug) {
				t.Errorf("an address in a list at %s: %v", level, got)
			}
			if strings.Contains(log.String(), credentials.Password) {
				t.Error("a password is logged")
			}
		})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
