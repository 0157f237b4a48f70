package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// idleFigures is what idle connections took, of one server in one round.
type idleFigures struct {
	Server      string `json:"server"`
	Connections int    `json:"connections"`
	// Process is the server's memory before them, Arrived and Collected what came on top: when the last had
	// arrived, and after a ping on each and a garbage collection. Bytes.
	Process   int64 `json:"process"`
	Arrived   int64 `json:"arrived"`
	Collected int64 `json:"collected"`
}

const (
	// earlier is how many connections are there before the count begins: what is made for the first of all
	// belongs to the process.
	earlier = 100
	// quiet is how long a server is left alone before its memory is read, and pinged long enough for a ping and its
	// answer on each connection: both servers send one every 25 s.
	quiet  = 5 * time.Second
	pinged = 30 * time.Second
)

func measureIdle(ctx context.Context, c contestant, s settings, tell func(string)) (idleFigures, error) {
	f := idleFigures{Server: c.name, Connections: s.connections}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := c.start(ctx)
	if err != nil {
		return f, err
	}
	defer server.stop()
	var crowd crowd
	defer crowd.leave()

	if err := crowd.grow(ctx, c.dialect, server.addr, earlier, tell); err != nil {
		return f, err
	}
	if err := c.collect(ctx, server); err != nil { // what starting took is over
		return f, err
	}
	before, err := memoryAfter(ctx, server, quiet)
	if err != nil {
		return f, err
	}
	if err := crowd.grow(ctx, c.dialect, server.addr, earlier+s.connections, tell); err != nil {
		return f, err
	}
	arrived, err := memoryAfter(ctx, server, quiet)
	if err != nil {
		return f, err
	}
	tell(fmt.Sprintf("%d connections: %.1f KB each", s.connections,
		float64(arrived-before)/float64(s.connections)/1000))
	if err := pause(ctx, pinged); err != nil {
		return f, err
	}
	if err := c.collect(ctx, server); err != nil {
		return f, err
	}
	collected, err := memoryAfter(ctx, server, quiet)
	if err != nil {
		return f, err
	}
	if n := crowd.failures(); n > 0 {
		return f, fmt.Errorf("%d connections were lost", n)
	}
	if s.metrics != "" && c.name == "visavis" {
		figures, err := metrics(ctx, server)
		if err := errors.Join(err, os.WriteFile(s.metrics, []byte(figures), 0o600)); err != nil {
			return f, err
		}
	}
	f.Process, f.Arrived, f.Collected = before, arrived-before, collected-before
	tell(fmt.Sprintf("%.1f KB each after it", float64(f.Collected)/float64(s.connections)/1000))
	return f, nil
}

func memoryAfter(ctx context.Context, s *server, d time.Duration) (int64, error) {
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	return s.memory()
}

// pause waits, or fails when the context ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
