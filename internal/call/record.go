package call

import (
	"time"

	"github.com/visavis/visavis/protocol"
)

// Record is the record of one call.
type Record struct {
	Call           protocol.CallID
	Caller, Callee protocol.User // as they were called then
	Video          bool
	RungAt         time.Time
	AcceptedAt     time.Time // zero when nobody accepted
	EndedAt        time.Time // zero while the call lives
	Reason         protocol.EndReason
	// Detail says why a call failed, as far as a party could tell.
	Detail protocol.Detail
	// RelayedBytes is the number of bytes that our relays have forwarded in both directions,
	// once the call has ended. A standalone relay counts as far as it has reported by then.
	RelayedBytes uint64
}

// Duration is the time from accept to end; 0 when nobody accepted.
func (r Record) Duration() time.Duration {
	if r.AcceptedAt.IsZero() {
		return 0
	}
	return r.EndedAt.Sub(r.AcceptedAt)
}
