package limit

import (
	"sync"
	"time"
)

// Rate is how often something is allowed: Burst at once, and one more each Every after that. Burst must be at least 1,
// Every positive.
type Rate struct {
	Every time.Duration
	Burst int
}

// refill is how long an empty bucket takes to be full.
func (r Rate) refill() time.Duration { return r.Every * time.Duration(r.Burst) }

// DefaultKeys is how many keys [Buckets] remember unless told otherwise: 65,536 take some 5 MB.
const DefaultKeys = 1 << 16

// Buckets are token buckets of one [Rate], one for each key. Any goroutine may use them.
//
// They remember a bounded number of keys. Beyond it the keys that were used least recently are forgotten first, as if
// their buckets were full: an attacker with that many addresses has as many buckets anyway.
type Buckets[K comparable] struct {
	rate Rate
	keys int

	mu sync.Mutex // guards all below
	// young and old hold when each key's bucket will be full again (the generic cell rate algorithm). A key that is
	// used moves to young. When young is half of all keys, or an empty bucket would be full again, young becomes old
	// and old is dropped. A key dropped for its age had a full bucket.
	young, old map[K]time.Time
	turned     time.Time // when young began
}

// NewBuckets are full buckets of a rate. They remember at most so many keys, [DefaultKeys] if that is 0.
func NewBuckets[K comparable](rate Rate, keys int) *Buckets[K] {
	if rate.Burst < 1 || rate.Every <= 0 {
		panic("limit: a rate needs a burst and an interval")
	}
	if keys == 0 {
		keys = DefaultKeys
	}
	return &Buckets[K]{rate: rate, keys: max(2, keys), young: map[K]time.Time{}}
}

// Allow takes one token of a key and reports whether there was one. Without one it takes nothing.
func (b *Buckets[K]) Allow(key K, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.fullLocked(key, now)
	next := full.Add(b.rate.Every)
	allowed := next.Sub(now) <= b.rate.refill()
	if allowed {
		full = next
	}
	b.turnLocked(now)
	b.young[key] = full // refused, too: a key that keeps trying is not forgotten
	return allowed
}

// Wait is how long it takes until Allow would succeed for a key: 0 if it would now. It takes nothing, so that a caller
// can look first and take later, once it knows the outcome.
func (b *Buckets[K]) Wait(key K, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.fullLocked(key, now).Add(b.rate.Every).Sub(now)-b.rate.refill())
}

// Refill makes a key's bucket full.
func (b *Buckets[K]) Refill(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.young, key)
	delete(b.old, key)
}

// fullLocked is when a key's bucket will be full: now at the earliest.
func (b *Buckets[K]) fullLocked(key K, now time.Time) time.Time {
	full, ok := b.young[key]
	if !ok {
		full = b.old[key]
	}
	if full.Before(now) {
		return now
	}
	return full
}

// turnLocked makes room for one key.
func (b *Buckets[K]) turnLocked(now time.Time) {
	if b.turned.IsZero() {
		b.turned = now
	}
	aged := now.Sub(b.turned) >= b.rate.refill()
	if !aged && len(b.young) < b.keys/2 {
		return
	}
	b.old, b.young, b.turned = b.young, map[K]time.Time{}, now
}
