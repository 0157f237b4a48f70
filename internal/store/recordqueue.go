package store

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// queueBound is how many records wait for the database: an hour of one call a second, in about 2 MB.
const queueBound = 4096

// recordQueue holds the records that are not yet in the database, oldest first. The writer takes batches out of it.
// When more than queueBound records wait, the oldest is lost.
type recordQueue struct {
	log           *slog.Logger
	written, lost prometheus.Counter
	wake          signal // the writer's

	mu      sync.Mutex    // guards all below
	waiting []call.Record // without those in writing
	writing []call.Record // those that the writer has taken and not yet written
	handed  uint64        // how many records were ever added
	settled uint64        // how many of those are written or lost
	changed chan struct{} // closed and replaced when settled grows
	losing  bool          // records were lost since the last successful write, and that was logged
	closed  bool
}

func newRecordQueue(wake signal, log *slog.Logger, written, lost prometheus.Counter) *recordQueue {
	return &recordQueue{log: log, written: written, lost: lost, wake: wake, changed: make(chan struct{})}
}

// add queues a record. It does not block.
func (q *recordQueue) add(r call.Record) {
	q.mu.Lock()
	q.handed++
	lost, first := 0, false
	if q.closed {
		lost = 1
		q.settleLocked(1)
	} else {
		q.waiting = append(q.waiting, r)
		lost = q.trimLocked()
	}
	if lost > 0 && !q.losing {
		q.losing, first = true, true
	}
	q.mu.Unlock()

	q.lost.Add(float64(lost))
	if first {
		q.log.Error("call records are being lost: more wait for the database than may", "bound", queueBound)
	}
	q.wake.raise()
}

// trimLocked drops the oldest records over the bound, but none of those in writing. It returns how many.
func (q *recordQueue) trimLocked() int {
	over := len(q.waiting) + len(q.writing) - queueBound
	if over <= 0 {
		return 0
	}
	clear(q.waiting[:over])
	q.waiting = q.waiting[over:]
	q.settleLocked(over)
	return over
}

// take returns the oldest records, batchBound at most. The writer calls settle before it takes others.
func (q *recordQueue) take() []call.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), batchBound)
	q.writing = q.waiting[:n:n]
	q.waiting = q.waiting[n:]
	return q.writing
}

// settle ends what take began. Records that were not written are the oldest of the queue again.
func (q *recordQueue) settle(written bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.writing
	q.writing = nil
	if !written {
		q.waiting = append(batch, q.waiting...)
		return
	}
	q.losing = false
	q.settleLocked(len(batch))
	q.written.Add(float64(len(batch)))
}

// settleLocked counts the oldest n records as written or lost.
func (q *recordQueue) settleLocked(n int) {
	q.settled += uint64(n)
	close(q.changed)
	q.changed = make(chan struct{})
}

// wait waits until all records that were added before are written or lost. It returns earlier if ctx ends or timeout
// is over.
func (q *recordQueue) wait(ctx context.Context, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	q.mu.Lock()
	handed := q.handed
	q.mu.Unlock()
	for {
		q.mu.Lock()
		done, changed := q.settled >= handed, q.changed
		q.mu.Unlock()
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

// close drops what waits. Records that are added later are lost.
func (q *recordQueue) close() {
	q.mu.Lock()
	q.closed = true
	lost := len(q.waiting)
	q.waiting = nil
	q.settleLocked(lost)
	q.mu.Unlock()
	if lost > 0 {
		q.lost.Add(float64(lost))
		q.log.Error("call records are lost: the database did not take them before the end", "records", lost)
	}
}

// len returns how many records are not yet written.
func (q *recordQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) + len(q.writing)
}

// complete reports whether no record of a user waits, and no record of anybody is being lost.
func (q *recordQueue) complete(user protocol.UserID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := func(r call.Record) bool { return r.Caller.ID == user || r.Callee.ID == user }
	return !q.losing && !slices.ContainsFunc(q.waiting, of) && !slices.ContainsFunc(q.writing, of)
}
