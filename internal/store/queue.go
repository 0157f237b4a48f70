package store

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

const (
	// queueBound is how many records wait for the database: an hour of a call each
	// second, and about 2 MB.
	queueBound = 4096
	// batchBound is how many are written by one statement.
	batchBound = 128
	// gathering is the rest after a batch that was not full, in which the next one gathers:
	// a commit costs more than a record.
	gathering = 20 * time.Millisecond
	// writeTimeout bounds one statement, so that a connection that went silent is
	// given up.
	writeTimeout = 10 * time.Second
	// A failing database is tried again after firstWait, then twice that, up to
	// lastWait.
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
	// drainTimeout bounds what Run writes after its end, closeTimeout what Close
	// writes that came later still.
	drainTimeout = 5 * time.Second
	closeTimeout = time.Second
	// settleTimeout is how long a reader waits for what was handed over before it.
	settleTimeout = 2 * time.Second
)

// Record hands over one call, to be written soon; it waits for neither database nor
// disk. The same call twice is one record. When as many wait as may, the oldest is
// lost. When it returns, the end of an accepted call survives a killed process (see
// [Store.Lives]).
func (s *Store) Record(r call.Record) {
	if !r.EndedAt.IsZero() && !r.AcceptedAt.IsZero() {
		s.ends.add(r, time.Now())
	}
	s.met.add(r)
	s.enqueue(r)
}

func (s *Store) enqueue(r call.Record) {
	s.mu.Lock()
	s.handed++
	lost, first := 0, false
	if s.closed {
		lost = 1
		s.settleLocked(1)
	} else {
		s.queue = append(s.queue, r)
		lost = s.trimLocked()
	}
	if lost > 0 && !s.losing {
		s.losing, first = true, true
	}
	s.mu.Unlock()

	s.metrics.lost.Add(float64(lost))
	if first {
		s.log.Error("call records are being lost: more wait for the database than may", "bound", queueBound)
	}
	s.rouse()
}

// rouse tells Run that something waits.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run writes records and logins as they come, and tries again for as long as the database
// fails. When ctx ends it writes what waits, 5 s at most, and returns nil. It
// runs once, before [Store.Close].
func (s *Store) Run(ctx context.Context) error {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { s.ends.run(ctx) })
	if s.keep > 0 {
		others.Go(func() {
			s.forgetOld(ctx, "call records", func(now time.Time) (int64, error) { return s.deleteEnded(ctx, now.Add(-s.keep)) })
		})
	}
	others.Go(func() {
		s.forgetOld(ctx, "logins", func(now time.Time) (int64, error) { return s.deleteLogins(ctx, now) })
	})
	wait := firstWait
	for {
		if ctx.Err() != nil {
			s.drain(drainTimeout)
			return nil
		}
		if !s.pending() {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		if s.writeBatch(ctx) {
			wait = firstWait
			if s.waiting() < batchBound {
				pause(ctx, gathering)
			}
			continue
		}
		// Nodes that share a database must not come back in step.
		pause(ctx, wait/2+rand.N(wait/2))
		wait = min(2*wait, lastWait)
	}
}

// pause waits, but no longer than until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drain writes what waits, for as long as that may take.
func (s *Store) drain(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for s.pending() && ctx.Err() == nil {
		if s.writeBatch(ctx) {
			continue
		}
		pause(ctx, firstWait)
	}
}

// writeBatch writes the oldest records of the queue, and logins that wait; when that
// fails they are the oldest again.
func (s *Store) writeBatch(ctx context.Context) bool {
	s.mu.Lock()
	n := min(len(s.queue), batchBound)
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.writing = batch
	logins := s.takeLoginsLocked()
	s.mu.Unlock()

	writing, cancel := context.WithTimeout(ctx, writeTimeout)
	err := s.insert(writing, batch, logins)
	cancel()

	s.mu.Lock()
	s.writing = nil
	s.settleLoginsLocked(err == nil)
	failed := s.failure != nil
	if err == nil || ctx.Err() != context.Canceled { //nolint:errorlint // Err returns it as it is
		s.failure = err
	}
	if err != nil {
		s.queue = append(batch, s.queue...)
	} else {
		s.losing = false
		s.settleLocked(n)
	}
	s.mu.Unlock()

	if err != nil && ctx.Err() == context.Canceled { //nolint:errorlint // Err returns it as it is
		return false // Run ends, and drain tries again: the database did nothing wrong
	}
	if err != nil {
		s.metrics.failures.Inc()
		if !failed {
			s.log.Warn("the database fails: call records wait", "error", err)
		}
	} else {
		s.metrics.written.Add(float64(n))
		if failed {
			s.log.Info("the database takes call records again")
		}
	}
	return err == nil
}

// trimLocked drops the oldest records over the bound, never those in writing.
func (s *Store) trimLocked() int {
	over := len(s.queue) + len(s.writing) - queueBound
	if over <= 0 {
		return 0
	}
	clear(s.queue[:over])
	s.queue = s.queue[over:]
	s.settleLocked(over)
	return over
}

// settleLocked says that the oldest n records wait no longer.
func (s *Store) settleLocked(n int) {
	s.settled += uint64(n)
	close(s.changed)
	s.changed = make(chan struct{})
}

// settle waits until the records handed over so far wait no longer, for a short
// while.
func (s *Store) settle(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.mu.Lock()
	handed := s.handed
	s.mu.Unlock()
	for {
		s.mu.Lock()
		done, changed := s.settled >= handed, s.changed
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// refuse ends the queue: what waits is lost, and what comes later.
func (s *Store) refuse() {
	s.mu.Lock()
	s.closed = true
	lost := len(s.queue)
	s.queue = nil
	clear(s.logins)
	s.settleLocked(lost)
	s.mu.Unlock()
	if lost > 0 {
		s.metrics.lost.Add(float64(lost))
		s.log.Error("call records are lost: the database did not take them before the end", "records", lost)
	}
}

// waiting is how many records are not yet written.
func (s *Store) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) + len(s.writing)
}

// pending reports whether anything is not yet written.
func (s *Store) pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)+len(s.writing)+len(s.logins)+len(s.writingLogins) > 0
}

// Failure is why the last write of call records failed; nil when it did not, or when nothing was to be written yet.
func (s *Store) Failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Complete reports whether the database has all that was handed over of a user's calls: none of their records waits, and
// none of anybody's is being lost.
func (s *Store) Complete(user protocol.UserID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := func(r call.Record) bool { return r.Caller.ID == user || r.Callee.ID == user }
	return !s.losing && !slices.ContainsFunc(s.queue, of) && !slices.ContainsFunc(s.writing, of)
}
