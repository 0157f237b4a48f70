package call

import (
	"net/netip"
	"time"

	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/protocol"
)

const (
	// perAddress is how many times the rings of one user an address may make: an office or
	// a clinic behind one router rings more often than a person. Loopback addresses are not
	// limited, because a proxy that is not listed may be behind them.
	perAddress = 20
	// unanswered is how many rings in a row one user may make to another without an answer.
	// One more is allowed after each coolDown.
	unanswered = 3
	coolDown   = 10 * time.Minute / unanswered
)

// ringLimits bound how often people ring, so that nobody can harass others (PROTOCOL.md,
// section 6, Limits). Switchboard.mu guards them. The buckets have locks of their own.
type ringLimits struct {
	users     *limit.Buckets[protocol.UserID]
	addresses *limit.Buckets[netip.Addr]
	pairs     *limit.Buckets[pair]
}

// pair are a caller and a callee.
type pair struct{ caller, callee protocol.UserID }

func newRingLimits(perMinute int) ringLimits {
	return ringLimits{
		users: limit.NewBuckets[protocol.UserID](limit.Rate{Every: time.Minute / time.Duration(perMinute), Burst: perMinute}, 0),
		addresses: limit.NewBuckets[netip.Addr](limit.Rate{
			Every: time.Minute / time.Duration(perMinute*perAddress), Burst: perMinute * perAddress,
		}, 0),
		pairs: limit.NewBuckets[pair](limit.Rate{Every: coolDown, Burst: unanswered}, 0),
	}
}

// ring counts a ring. It returns why the ring is refused, as a sentence for the caller, or
// an empty string.
func (l *ringLimits) ring(caller, callee protocol.UserID, addr netip.Addr, now time.Time) (refused string) {
	switch {
	case l.pairs.Wait(pair{caller, callee}, now) > 0:
		return "you have rung this person three times without an answer; wait some minutes"
	case !l.users.Allow(caller, now):
		return "you ring too often; wait a minute"
	case addr.IsValid() && !addr.IsLoopback() && !l.addresses.Allow(limit.Source(addr), now):
		return "too many calls come from your network; wait a minute"
	}
	return ""
}

// disturbed counts a ring that a callee's devices show. A ring of a callee who is busy or
// unreachable disturbs nobody and is not counted.
func (l *ringLimits) disturbed(caller, callee protocol.UserID, now time.Time) {
	l.pairs.Allow(pair{caller, callee}, now)
}

// answered forgets the unanswered rings between two users.
func (l *ringLimits) answered(caller, callee protocol.UserID) {
	l.pairs.Refill(pair{caller, callee})
	l.pairs.Refill(pair{callee, caller})
}
