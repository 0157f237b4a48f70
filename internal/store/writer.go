package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/call"
)

const (
	// batchBound is how many records, and how many logins, one transaction writes.
	batchBound = 128
	// gathering is how long the writer rests after a batch that was not full. Meanwhile the next batch gathers: a
	// commit costs more than a record.
	gathering = 20 * time.Millisecond
	// writeTimeout bounds one transaction, so that the writer gives up a connection that no longer answers.
	writeTimeout = 10 * time.Second
	// A write that failed is tried again after firstWait, then after twice that, up to lastWait.
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
	// drainTimeout bounds what run writes after its context has ended. closeTimeout bounds what DB.Close writes.
	drainTimeout = 5 * time.Second
	closeTimeout = time.Second
)

// writer writes queued records and logins to the database. Both go into the same transactions, so that a call in the
// database always has the logins of its parties beside it.
//
// It has one goroutine, which is that of [DB.Run].
type writer struct {
	log      *slog.Logger
	failures prometheus.Counter
	pools    *pools
	records  *recordQueue
	logins   *loginQueue
	wake     signal // raised when something was queued

	mu      sync.Mutex
	failure error // guarded by mu; why the last write failed, or nil
}

// run writes what is queued, as it comes, until ctx ends. Then it writes the rest, for drainTimeout at most.
func (w *writer) run(ctx context.Context) {
	wait := firstWait
	for ctx.Err() == nil {
		switch {
		case !w.pending():
			select {
			case <-w.wake:
			case <-ctx.Done():
			}
		case w.writeBatch(ctx):
			wait = firstWait
			if w.records.len() < batchBound {
				pause(ctx, gathering)
			}
		default:
			// Nodes that share a database must not all retry at the same moment.
			pause(ctx, wait/2+rand.N(wait/2))
			wait = min(2*wait, lastWait)
		}
	}
	w.drain(drainTimeout)
}

// drain writes what is queued, until all is written or timeout is over. A write that fails is tried again after a
// pause: no event tells when a database works again.
func (w *writer) drain(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for w.pending() && ctx.Err() == nil {
		if !w.writeBatch(ctx) {
			pause(ctx, firstWait)
		}
	}
}

// pending reports whether anything is not yet written.
func (w *writer) pending() bool { return w.records.len()+w.logins.len() > 0 }

// writeBatch writes the oldest records and some logins. It reports whether that succeeded; otherwise they are queued
// again.
func (w *writer) writeBatch(ctx context.Context) bool {
	// Records first: a login that was handed over before one of these records is then in this batch or already
	// written, unless more logins wait than a batch takes.
	records := w.records.take()
	logins := w.logins.take()
	writing, cancel := context.WithTimeout(ctx, writeTimeout)
	err := w.insert(writing, records, logins)
	cancel()

	// A write that fails because Run ends does not count: drain tries it again.
	stopped := err != nil && ctx.Err() == context.Canceled //nolint:errorlint // Err returns it as it is
	if !stopped {
		w.note(err)
	}
	w.logins.settle(err == nil)
	w.records.settle(err == nil)
	return err == nil
}

// insert writes records and logins in one transaction.
func (w *writer) insert(ctx context.Context, records []call.Record, logins []account.Login) error {
	return w.pools.inTransaction(ctx, func(tx *sql.Tx) error {
		return errors.Join(insertLogins(ctx, tx, logins), insertRecords(ctx, tx, records))
	})
}

// note keeps the result of a write. It logs when writes begin to fail, and when they succeed again.
func (w *writer) note(err error) {
	w.mu.Lock()
	before := w.failure
	w.failure = err
	w.mu.Unlock()
	if err != nil {
		w.failures.Inc()
	}
	switch {
	case err != nil && before == nil:
		w.log.Warn("the database fails: call records wait", "error", err)
	case err == nil && before != nil:
		w.log.Info("the database takes call records again")
	}
}

func (w *writer) lastFailure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
