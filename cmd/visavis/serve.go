package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/visavis/visavis/internal/node"
)

// serve runs a node until ctx ends or the process is told to stop: the first
// SIGINT or SIGTERM lets calls and records end well, the second ends it at once.
func serve(ctx context.Context, cfg node.Config, stdout, stderr io.Writer) error {
	log := newLogger(cfg.Log, stderr)
	for _, warning := range cfg.Warnings() {
		log.Warn("the configuration is valid, but", "warning", warning)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from now on a signal does what it does by default

	n, err := node.New(cfg, log)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "Visavis is at", n.URL())
	tellAdmin(stdout, n.AdminURL())
	if cfg.TLS.Mode == node.TLSSelfSigned {
		if err := invite(stdout, n.URL(), cfg); err != nil {
			log.Warn("the QR code cannot be drawn", "error", err)
		}
	}
	return n.Run(ctx)
}

// relayAlone runs the relay without the rest, as serve runs all of it.
func relayAlone(ctx context.Context, cfg node.Config, stdout, stderr io.Writer) error {
	log := newLogger(cfg.Log, stderr)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return node.RunRelay(ctx, cfg, log, func(urls []string, adminURL string) {
		fmt.Fprintln(stdout, "The relay is at", strings.Join(urls, " "))
		tellAdmin(stdout, adminURL)
	})
}

// tellAdmin tells where metrics are, if they are anywhere.
func tellAdmin(stdout io.Writer, url string) {
	if url != "" {
		fmt.Fprintf(stdout, "Metrics are at %s/metrics, profiles at %s/debug/pprof/\n", url, url)
	}
}

// invite tells how a phone on the same network gets here.
func invite(stdout io.Writer, address string, cfg node.Config) error {
	addresses := cfg.LANAddresses()
	if len(addresses) == 0 {
		_, err := fmt.Fprintln(stdout, "This machine has no address on a network: no other device can get here.")
		return err
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	u.Host = net.JoinHostPort(addresses[0].String(), u.Port())
	fmt.Fprintf(stdout, "\nFrom a phone or another computer on the same network: %s\n\n", u)
	if err := drawQR(stdout, u.String(), terminal(stdout)); err != nil {
		return err
	}
	_, err = fmt.Fprint(stdout, `
The browser will warn that it does not know who made the certificate: you did, just now.
Go on all the same: "Advanced", then "Proceed" (Chrome), "Accept the Risk" (Firefox),
"Show Details", then "visit this website" (Safari). Without HTTPS it would give no camera.
`)
	return err
}

func newLogger(cfg node.Log, stderr io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}
