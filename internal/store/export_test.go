package store

import (
	"context"
	"time"
)

// Settled waits until the records that were handed over before are written or lost. It reports whether that is so
// within timeout.
func (r *Records) Settled(ctx context.Context, timeout time.Duration) bool {
	r.queue.wait(ctx, timeout)
	return r.queue.len() == 0
}
