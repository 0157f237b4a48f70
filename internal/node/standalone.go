package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/visavis/visavis/internal/relay"
)

// RunRelay runs the relay alone, for nodes elsewhere that share its secret and
// name it among their others, until ctx is done. Whether it is well is told over HTTP
// at cfg.Listen. ready is called once it serves; adminURL is as [Node.AdminURL].
func RunRelay(ctx context.Context, cfg Config, log *slog.Logger, ready func(urls []string, adminURL string)) error {
	if err := cfg.ValidateRelay(); err != nil {
		return err
	}
	source, err := openCertificate(cfg)
	if err != nil {
		return err
	}
	registry := newRegistry()
	var parts []part
	listener, err := listen("HTTP", cfg.Listen)
	if err != nil {
		return err
	}
	// It answers while relayed calls go on.
	health := newHealth(listener)
	parts = append(parts, part{name: "health", stops: stopStore, run: health.Run, discard: listener.Close})
	server, err := newRelay(cfg, RelayKey(cfg.Relay.Secret), true, source, log, registry)
	if err != nil {
		return errors.Join(err, discardParts(parts))
	}
	parts = append(parts, relayPart(server, cfg, log))
	admin, err := openAdmin(cfg.Admin.Listen, registry)
	if err != nil {
		return errors.Join(err, discardParts(parts))
	}
	if admin != nil {
		parts = append(parts, part{name: "admin", stops: stopAdmin, run: admin.Run})
	}
	parts = append(parts, certificatePart(source, stopStore, log))
	return runParts(ctx, parts, log, func() { ready(server.URLs(), admin.url()) })
}

// newHealth serves GET /healthz and nothing else.
func newHealth(listener net.Listener) *httpServer {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	return &httpServer{"HTTP", listener, &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}}
}

// relayPart is a relay, which lets relayed calls end before it stops.
func relayPart(server *relay.Server, cfg Config, log *slog.Logger) part {
	return part{
		name: "relay", stops: stopRelay,
		run:    func(ctx context.Context) error { return serveRelay(ctx, server, log) },
		before: func() { drain(server, cfg.Relay.Drain, log) },
		discard: func() error { // Run is what closes its sockets
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			return server.Run(ended)
		},
	}
}

// drain lets relayed calls end by themselves, for as long as limit.
func drain(server *relay.Server, limit time.Duration, log *slog.Logger) {
	if limit == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := server.Drain(ctx); err != nil {
		log.Info("relayed calls are cut off", "after", limit)
	}
}
