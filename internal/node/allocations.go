package node

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/visavis/visavis/internal/relay"
)

// serveRelay runs the relay until ctx is done, and lists what it has when asked.
func serveRelay(ctx context.Context, server *relay.Server, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	var listing sync.WaitGroup
	listing.Go(func() { listAllocations(ctx, server, log) })
	err := server.Run(ctx)
	cancel()
	listing.Wait()
	return err
}

// listAllocations writes the relay's allocations to the log whenever the process
// is told to (SIGUSR1), until ctx is done. Whoever may signal the process may know
// who talks: over HTTP it would be a matter of passwords, and of proxies.
func listAllocations(ctx context.Context, server *relay.Server, log *slog.Logger) {
	asked := make(chan os.Signal, 1)
	if len(listSignals) == 0 { // no signals at all would mean all of them
		return
	}
	signal.Notify(asked, listSignals...)
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			tellAllocations(ctx, server.Allocations(), time.Now(), log)
		}
	}
}

// tellAllocations logs a line for each. Addresses of clients stand there at debug only.
func tellAllocations(ctx context.Context, all []relay.Allocation, now time.Time, log *slog.Logger) {
	log.Info("allocations", "count", len(all))
	for _, a := range all {
		family := "IPv4"
		if a.Client.Addr().Is6() {
			family = "IPv6"
		}
		var ports []uint16
		for _, r := range a.Relayed {
			ports = append(ports, r.Port())
		}
		line := []any{
			"user", a.User, "call", a.Call, "client", a.Transport + " " + family, "ports", ports,
			"age", now.Sub(a.Created).Round(time.Second), "expires", a.Expires.Sub(now).Round(time.Second),
			"bytesUp", a.Usage.BytesUp, "packetsUp", a.Usage.PacketsUp,
			"bytesDown", a.Usage.BytesDown, "packetsDown", a.Usage.PacketsDown,
			"permissions", len(a.Permissions), "channels", a.Channels,
		}
		if log.Enabled(ctx, slog.LevelDebug) {
			line = append(line, "address", a.Client.String(), "permitted", a.Permissions)
		}
		log.Info("allocation", line...)
	}
}
