package store

import (
	"context"
	"log/slog"
	"time"
)

const (
	// forgetEvery is how often rows are deleted that are too old.
	forgetEvery = time.Hour
	// forgetBatch is how many rows one statement deletes, so that new records wait only a short time.
	forgetBatch = 500
	// forgetPause is the rest between two such statements.
	forgetPause = 50 * time.Millisecond
)

// forgetOld deletes rows that are too old, at once and then each hour, until ctx ends. erase deletes up to forgetBatch
// rows and returns how many it deleted. what names the rows in the log.
func forgetOld(ctx context.Context, log *slog.Logger, what string, erase func(now time.Time) (int64, error)) {
	for ctx.Err() == nil {
		n, err := erase(time.Now())
		switch {
		case err != nil && ctx.Err() == nil:
			log.Warn("what is too old cannot be deleted; tried again in an hour", "what", what, "error", err)
			pause(ctx, forgetEvery)
		case n < forgetBatch:
			pause(ctx, forgetEvery)
		default:
			pause(ctx, forgetPause)
		}
	}
}
