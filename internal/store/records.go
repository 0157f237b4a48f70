package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// settleTimeout is how long a reader waits until the records that were handed over before it are written.
const settleTimeout = 2 * time.Second

// Records keeps the records of calls, which calls have ended, and who knows whom.
//
// It has two goroutines: one flushes the end log, the other deletes old records. [DB.Run] runs both and waits for them.
// Queued records are written by the goroutine of DB.Run itself.
type Records struct {
	log   *slog.Logger
	pools *pools
	keep  time.Duration // of Config
	queue *recordQueue
	ends  *endLog
	known recentAcquaintances
}

func newRecords(p *pools, ends *endLog, keep time.Duration, wake signal, log *slog.Logger, m metrics) *Records {
	return &Records{log: log, pools: p, keep: keep, ends: ends, queue: newRecordQueue(wake, log, m.written, m.lost)}
}

// replay queues the ends of the last replayFor again: the previous run may have been killed before the database had
// them.
func (r *Records) replay(now time.Time) {
	for _, record := range r.ends.youngerThan(now.Add(-replayFor)) {
		r.queue.add(record)
	}
}

// run flushes the end log and deletes old records until ctx ends.
func (r *Records) run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { r.ends.run(ctx) })
	if r.keep > 0 {
		parts.Go(func() {
			forgetOld(ctx, r.log, "call records", func(now time.Time) (int64, error) { return r.deleteEnded(ctx, now.Add(-r.keep)) })
		})
	}
	parts.Wait()
}

// Record hands over the record of a call, to be written soon. It waits neither for the database nor for the disk.
//
// A record without an end is that of a call that goes on. Two records of the same ended call count as one. If too many
// records wait for the database, the oldest is lost. When Record returns, the end of an accepted call survives if the
// process is killed (see [Records.Lives]).
func (r *Records) Record(record call.Record) {
	if !record.EndedAt.IsZero() && !record.AcceptedAt.IsZero() {
		r.ends.add(record, time.Now())
	}
	r.known.add(record)
	r.queue.add(record)
}

// Complete reports whether the database has all records of a user's calls that were handed over: none of them waits,
// and no record of anybody is being lost.
func (r *Records) Complete(user protocol.UserID) bool { return r.queue.complete(user) }

// Recent returns a user's ended calls, newest first and at most limit. If before is not empty, it returns those before
// that call. If that call is not one of the user's, the error is a [*protocol.Error] with CodeUnknownCall.
//
// Recent sees every record that was handed over before. It waits for the database to have them, for 2 s at most.
func (r *Records) Recent(ctx context.Context, user protocol.UserID, before protocol.CallID, limit int) ([]call.Record, error) {
	r.queue.wait(ctx, settleTimeout)
	rungAt := int64(math.MaxInt64)
	if before != "" {
		err := r.pools.read.QueryRowContext(ctx,
			`SELECT rung_at FROM calls WHERE id = $1 AND (caller_id = $2 OR callee_id = $2)`, before, user).Scan(&rungAt)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, protocol.Errorf(protocol.CodeUnknownCall, "no such call among this user's")
		}
		if err != nil {
			return nil, fmt.Errorf("read call %s: %w", before, err)
		}
	}
	// Each half walks one index. With OR, both databases would sort all calls of the user.
	rows, err := r.pools.read.QueryContext(ctx, `
		SELECT `+columns+` FROM (
			SELECT * FROM calls
			WHERE caller_id = $1 AND ended_at > 0 AND (rung_at, id) < ($2, $3) ORDER BY rung_at DESC, id DESC LIMIT $4
		) AS made
		UNION ALL
		SELECT `+columns+` FROM (
			SELECT * FROM calls
			WHERE callee_id = $1 AND caller_id <> $1 AND ended_at > 0 AND (rung_at, id) < ($2, $3) ORDER BY rung_at DESC, id DESC LIMIT $4
		) AS taken
		ORDER BY rung_at DESC, id DESC LIMIT $4`, user, rungAt, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	return scanRecords(rows)
}

// Living returns the accepted calls of a node that have no end yet. When the node starts, these are the calls that it
// had when it stopped. node is the first part of their ids.
func (r *Records) Living(ctx context.Context, node string) ([]call.Record, error) {
	rows, err := r.pools.read.QueryContext(ctx,
		`SELECT `+columns+` FROM calls WHERE ended_at = 0 AND substr(id, 1, $1) = $2`, len(node)+1, node+"-")
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	living, err := scanRecords(rows)
	return slices.DeleteFunc(living, func(record call.Record) bool { return r.ends.ended(record.Call) }), err
}

// Lives reports whether a call that was accepted at that time goes on. It is true only with proof. Either the log of
// ended calls is complete since before the accept and has no end of the call, or the database has a record of the call
// without an end. An error says that the database cannot tell now.
func (r *Records) Lives(ctx context.Context, id protocol.CallID, accepted time.Time) (bool, error) {
	if r.ends.ended(id) {
		return false, nil
	}
	if r.ends.covers(accepted) {
		return true, nil
	}
	var lives bool
	err := r.pools.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM calls WHERE id = $1 AND ended_at = 0)`, id).Scan(&lives)
	if err != nil {
		return false, fmt.Errorf("read call %s: %w", id, err)
	}
	return lives, nil
}

// EndedSince returns the accepted calls that ended after t, as far as the log of ended calls remembers them: the last
// 4096.
func (r *Records) EndedSince(t time.Time) []protocol.CallID {
	var ids []protocol.CallID
	for _, record := range r.ends.youngerThan(t) {
		ids = append(ids, record.Call)
	}
	return ids
}

// Knows reports whether a user has rung another one, or accepted a call of theirs. A call that goes on counts, too.
//
// Knows sees every record that was handed over before, also if the database is behind. It takes as long for users who
// do not exist as for those who do.
func (r *Records) Knows(ctx context.Context, user, other protocol.UserID) (bool, error) {
	if r.known.has(acquaintance{user, other}) {
		return true, nil
	}
	var knows bool
	err := r.pools.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM acquaintances WHERE user_id = $1 AND other_id = $2)`,
		storable(user), storable(other)).Scan(&knows)
	if err != nil {
		return false, fmt.Errorf("read calls between two: %w", err)
	}
	return knows, nil
}

// HasCalled reports whether a user has ever rung anybody, or accepted a call.
//
// HasCalled sees every record that was handed over before. It waits for the database to have them, for 2 s at most.
func (r *Records) HasCalled(ctx context.Context, user protocol.UserID) (bool, error) {
	r.queue.wait(ctx, settleTimeout)
	var has bool
	err := r.pools.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM acquaintances WHERE user_id = $1)`, storable(user)).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("read whether a user was in a call: %w", err)
	}
	return has, nil
}

// deleteEnded deletes up to forgetBatch records of calls that ended before t. It keeps who knows whom.
func (r *Records) deleteEnded(ctx context.Context, t time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	result, err := r.pools.write.ExecContext(ctx, `
		DELETE FROM calls WHERE id IN (
			SELECT id FROM calls WHERE ended_at > 0 AND ended_at < $1 ORDER BY ended_at LIMIT $2
		)`, t.UnixMilli(), forgetBatch)
	if err != nil {
		return 0, fmt.Errorf("delete calls: %w", err)
	}
	return result.RowsAffected()
}
