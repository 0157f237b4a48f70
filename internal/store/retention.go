package store

import (
	"context"
	"fmt"
	"time"
)

const (
	// forgetEvery is how often records are looked for that are too old.
	forgetEvery = time.Hour
	// forgetBatch is how many are deleted by one statement, so that new records need not
	// wait for long.
	forgetBatch = 500
	// forgetPause is the rest between two such statements.
	forgetPause = 50 * time.Millisecond
)

// forgetOld deletes what is too old, at once and then each hour, until ctx is done.
// erase deletes a batch of it.
func (s *Store) forgetOld(ctx context.Context, what string, erase func(now time.Time) (int64, error)) {
	for ctx.Err() == nil {
		n, err := erase(time.Now())
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("what is too old cannot be deleted; tried again in an hour", "what", what, "error", err)
			pause(ctx, forgetEvery)
		case n < forgetBatch:
			pause(ctx, forgetEvery)
		default:
			pause(ctx, forgetPause)
		}
	}
}

// deleteEnded deletes up to forgetBatch records of calls that ended before t. Who knows whom
// is kept.
func (s *Store) deleteEnded(ctx context.Context, t time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	result, err := s.write.ExecContext(ctx, `
		DELETE FROM calls WHERE id IN (
			SELECT id FROM calls WHERE ended_at > 0 AND ended_at < $1 ORDER BY ended_at LIMIT $2
		)`, t.UnixMilli(), forgetBatch)
	if err != nil {
		return 0, fmt.Errorf("delete calls: %w", err)
	}
	return result.RowsAffected()
}
