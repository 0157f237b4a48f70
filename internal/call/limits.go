package call

import (
	"net/netip"
	"time"

	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/protocol"
)

const (
	// perAddress is how many users with all their rings one address may stand for: an
	// office or a clinic behind one router rings more often than a person. This machine's
	// own address is not limited: behind it may be a proxy that is not listed.
	perAddress = 20
	// unanswered is how often one user may ring another in vain at once; another time
	// becomes due each coolDown, so that it is unanswered times in 10 minutes.
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

// ring is a ring that somebody asks for: why it is refused, as a sentence for them; empty
// when it is not.
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

// disturbed notes that a callee is rung. Whoever is not, because nobody is there or they
// are busy, is not disturbed either.
func (l *ringLimits) disturbed(caller, callee protocol.UserID, now time.Time) {
	l.pairs.Allow(pair{caller, callee}, now)
}

// answered forgets the rings of two who talk.
func (l *ringLimits) answered(caller, callee protocol.UserID) {
	l.pairs.Refill(pair{caller, callee})
	l.pairs.Refill(pair{callee, caller})
}
