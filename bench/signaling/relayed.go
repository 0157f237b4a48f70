package main

import (
	"context"
	"fmt"
	"time"
)

// relayedFigures is what relayed messages took, of one server in one window.
type relayedFigures struct {
	Server   string  `json:"server"`
	Messages int64   `json:"messages"`
	Rate     float64 `json:"rate"` // messages a second, as it came out
	// CPU is the server's time for a message, in nanoseconds.
	CPU int64 `json:"cpuNs"`
	// Median and P99 are the time from send to receive, in nanoseconds.
	Median int64 `json:"medianNs"`
	P99    int64 `json:"p99Ns"`
}

// windows is how often each server is measured in one round, in turn with the others: so short that what else the machine
// does falls on all alike.
const windows = 4

// measureRelayed lets the servers relay in turn, all running and all calls standing meanwhile.
func measureRelayed(ctx context.Context, all []contestant, s settings, tell func(server, what string)) ([]relayedFigures, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers, crowds := make([]*server, len(all)), make([]crowd, len(all))
	for i, c := range all {
		w := &crowds[i]
		var err error
		if servers[i], err = c.start(ctx); err != nil {
			return nil, err
		}
		defer servers[i].stop()
		defer w.leave()
		if err := w.grow(ctx, c.dialect, servers[i].addr, 2*s.pairs, func(what string) { tell(c.name, what) }); err != nil {
			return nil, err
		}
		for pair := range s.pairs {
			if err := c.join(w.clients[2*pair], w.clients[2*pair+1]); err != nil {
				return nil, err
			}
		}
		tell(c.name, fmt.Sprintf("%d calls, %.0f messages a second", s.pairs, s.rate*float64(2*s.pairs)))
		if err := w.relay(ctx, s.rate, maxMessages-windows*s.messages); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}

	var figures []relayedFigures
	for range windows {
		for i, c := range all {
			before, err := servers[i].cpu()
			if err != nil {
				return nil, err
			}
			crowds[i].hops.since()
			began := time.Now()
			if err := crowds[i].relay(ctx, s.rate, s.messages); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			took := time.Since(began)
			after, err := servers[i].cpu()
			if err != nil {
				return nil, err
			}
			f := relayedFigures{Server: c.name, Messages: int64(2 * s.pairs * s.messages)}
			f.Rate = float64(f.Messages) / took.Seconds()
			f.CPU = (after - before).Nanoseconds() / f.Messages
			hops := crowds[i].hops.since()
			f.Median, f.P99 = percentile(hops, 0.5).Nanoseconds(), percentile(hops, 0.99).Nanoseconds()
			tell(c.name, fmt.Sprintf("%.1f µs of CPU a message, p99 of the hop %.2f ms", float64(f.CPU)/1e3, float64(f.P99)/1e6))
			figures = append(figures, f)
		}
	}
	return figures, nil
}

// relay lets each client send messages at an even rate, one client after the other, and waits until all have arrived.
func (w *crowd) relay(ctx context.Context, rate float64, messages int) error {
	total := messages * len(w.clients)
	want := w.relayed.Load() + int64(total)
	interval := time.Duration(float64(time.Second) / rate / float64(len(w.clients)))
	began := time.Now()
	for i := range total {
		if early := time.Until(began.Add(time.Duration(i) * interval)); early > 0 {
			time.Sleep(early)
		}
		c := w.clients[i%len(w.clients)]
		if err := c.sendCandidate(c); err != nil {
			return err
		}
		if i%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for deadline := time.Now().Add(patience); w.relayed.Load() < want; {
		if w.failures() > 0 || time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages did not arrive; %d refusals", want-w.relayed.Load(), total, w.failures())
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
