// Package nodetest starts whole nodes in tests, on free ports with a database of
// their own, and connects clients to them.
package nodetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
)

// patience bounds every wait of this package.
const patience = 10 * time.Second

// Start runs a node until the test ends. change may alter its configuration.
func Start(t testing.TB, change func(*node.Config)) *node.Node {
	t.Helper()
	n, stop, err := Run(slog.New(slog.NewTextHandler(t.Output(), nil)), func(cfg *node.Config) {
		cfg.Data = t.TempDir()
		if change != nil {
			change(cfg)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	return n
}

// Run runs a node until stop is called, for programs that have no test at hand, such as examples. change alters its
// configuration and must set Data.
func Run(log *slog.Logger, change func(*node.Config)) (n *node.Node, stop func() error, err error) {
	cfg := node.DefaultConfig()
	free := node.MustParseAddress("127.0.0.1:0")
	cfg.Listen, cfg.Relay.Listen, cfg.Admin.Listen = free, free, free
	cfg.Call.RingsPerMinute = 60
	change(&cfg)
	if n, err = node.New(cfg, log); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = func() error {
		cancel()
		err := <-ended
		http.DefaultClient.CloseIdleConnections()
		return err
	}
	if err := waitReady(n.URL()); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return n, stop, nil
}

func waitReady(url string) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test's own certificate
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for deadline := time.Now().Add(patience); ; {
		resp, err := client.Get(url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("node is not ready: %w", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}
