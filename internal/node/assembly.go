package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// A part is what a server is made of: "visavis serve" and "visavis relay" are lists of parts. They start in the order of
// the list and stop in that of their places.
type part struct {
	name  string
	stops place
	// run does the part's work until its context is done; nil if there is nothing to run.
	run func(context.Context) error
	// before, if not nil, is called when it is the part's turn to stop, while it still runs.
	before func()
	// discard, if not nil, closes what the part holds open. It is called instead of run.
	discard func() error
}

// A place says when a part stops. Parts of one place stop one after the other, in the order of the list.
type place int

const (
	stopReady     place = iota // proxies send nobody else
	stopSessions               // clients are told to come back
	stopListeners              // requests under way have ended
	stopCalls                  // calls are left to the next run
	stopTelling                // devices and other relays have been told of the calls
	stopRelay                  // relayed calls have had their time to end
	stopStore                  // everything is written
	stopAdmin                  // it has shown how the others stop
)

// runParts runs parts until ctx is done or one of them fails, then stops them one after the other. started is called once
// all of them run.
func runParts(ctx context.Context, parts []part, log *slog.Logger, started func()) error {
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	stops := make([]func(), len(parts))
	for i, p := range parts {
		stops[i] = func() {}
		if p.run == nil {
			continue
		}
		running, cancel := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		group.Go(func() error {
			defer close(ended)
			if err := p.run(running); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
		stops[i] = func() {
			began := time.Now()
			cancel()
			<-ended
			log.Info("stopped", "part", p.name, "took", time.Since(began).Round(time.Millisecond))
		}
	}
	started()
	select {
	case <-ctx.Done():
	case <-failed.Done():
	}
	for _, i := range stopOrder(parts) {
		if parts[i].before != nil {
			parts[i].before()
		}
		stops[i]()
	}
	return group.Wait()
}

// stopOrder is the order in which parts stop, by their index.
func stopOrder(parts []part) []int {
	order := make([]int, len(parts))
	for i := range parts {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(parts[a].stops - parts[b].stops) })
	return order
}

// discardParts closes what parts hold that never run, in the order in which they would stop.
func discardParts(parts []part) error {
	var all []error
	for _, i := range stopOrder(parts) {
		if parts[i].discard != nil {
			all = append(all, parts[i].discard())
		}
	}
	return errors.Join(all...)
}
