package store

import (
	"sync"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// meeting says that a user knows another one.
type meeting struct{ user, other protocol.UserID }

// meetingsOf says who knows whom by a call: the caller the callee, and the callee who
// accepted the caller.
func meetingsOf(r call.Record) []meeting {
	if r.AcceptedAt.IsZero() {
		return []meeting{{r.Caller.ID, r.Callee.ID}}
	}
	return []meeting{{r.Caller.ID, r.Callee.ID}, {r.Callee.ID, r.Caller.ID}}
}

// meetingsBound is how many meetings each half of meetings holds: those of all records
// that may wait for the database, and more.
const meetingsBound = 4 * queueBound

// meetings are those of the latest records. A ring that asks for one need not wait until
// the database has it.
type meetings struct {
	mu sync.Mutex
	// young and old are guarded by mu. When young is full it becomes old, and old is dropped.
	young, old map[meeting]struct{}
}

func (m *meetings) add(r call.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, met := range meetingsOf(r) {
		if len(m.young) >= meetingsBound {
			m.old, m.young = m.young, nil
		}
		if m.young == nil {
			m.young = map[meeting]struct{}{}
		}
		m.young[met] = struct{}{}
	}
}

func (m *meetings) has(met meeting) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, young := m.young[met]
	_, old := m.old[met]
	return young || old
}
