package hub

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

const (
	// presenceDelay is how long the first change after a quiet time waits for others, such
	// as that of the other party of the same call. presencePeriod is the least time from
	// one announcement to the next.
	presenceDelay  = 50 * time.Millisecond
	presencePeriod = time.Second
	// maxChanges bounds the users in one announcement. The others wait for the next one.
	// maxGone bounds the departures that are remembered for clients that come back.
	maxChanges = 500
	maxGone    = 4096
)

// presence collects changes of presence and announces them together. Each announcement
// increments version. A client that names the version it has is sent the changes since
// then. No announcement is queued for a slow client: it is sent the changes up to the
// newest version when it reads again. Guarded by Hub.mu.
type presence struct {
	epoch   string // identifies this run of the hub: versions of another run mean nothing here
	version uint64
	// pending are the users who have changed since the last announcement, as they were then.
	pending map[protocol.UserID]protocol.User
	// gone are the users who were announced as offline, oldest first. Those of the versions
	// up to complete may be missing.
	gone     []departure
	complete uint64
	// frames caches the messages that lead to this version, by the version that their
	// receiver has.
	frames map[uint64][]byte
	next   time.Time     // when the next announcement may be made
	wake   chan struct{} // holds an element when something is pending
}

type departure struct {
	version uint64
	user    protocol.UserID
}

func newPresence() presence {
	return presence{
		epoch: strings.ToLower(rand.Text())[:8], version: 1,
		pending: map[protocol.UserID]protocol.User{}, frames: map[uint64][]byte{}, wake: make(chan struct{}, 1),
	}
}

// cursor names this version for a client that has been told of it.
func (p *presence) cursor() string { return fmt.Sprintf("%s.%d", p.epoch, p.version) }

// since returns the version that a client's cursor names, or 0 if this hub did not make it.
func (p *presence) since(cursor string) uint64 {
	var version uint64
	epoch, number, _ := strings.Cut(cursor, ".")
	if _, err := fmt.Sscan(number, &version); err != nil || epoch != p.epoch || version > p.version {
		return 0
	}
	return version
}

func (p *presence) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// presenceLocked updates a user's presence. If it or their name is no longer as announced,
// the user is pending.
func (h *Hub) presenceLocked(u *user, now time.Time) {
	is := protocol.Online
	switch {
	case len(u.sessions) == 0, !u.awaySince.IsZero() && now.Sub(u.awaySince) >= presenceGrace:
		is = protocol.Offline
	case u.busy:
		is = protocol.Busy
	}
	if is == u.Presence && u.Name == u.told {
		return
	}
	if _, already := h.presence.pending[u.ID]; !already {
		h.presence.pending[u.ID] = protocol.User{ID: u.ID, Name: u.told, Presence: u.Presence}
		h.presence.wakeUp()
	}
	u.Presence, u.told = is, u.Name
}

// announce announces changes of presence until ctx is done.
func (h *Hub) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.presence.wake:
		}
		h.mu.Lock()
		wait := max(presenceDelay, time.Until(h.presence.next))
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		h.guard("an announcement of presence", func() {
			defer h.flush()
			h.mu.Lock()
			defer h.mu.Unlock()
			h.announceLocked(time.Now())
		})
	}
}

// announceLocked makes the pending changes the next version, and wakes the lines of the
// watchers.
func (h *Hub) announceLocked(now time.Time) {
	p := &h.presence
	version, changes := p.version+1, 0
	for id, was := range p.pending {
		if changes == maxChanges {
			p.wakeUp()
			break
		}
		delete(p.pending, id)
		u := h.users[id]
		switch {
		case u != nil && u.Presence != protocol.Offline:
			if u.version > 0 && u.told == was.Name && u.Presence == was.Presence {
				continue // as announced again
			}
			u.version = version
		case was.Presence == protocol.Offline:
			continue // came and left since the last announcement
		default:
			p.gone = append(p.gone, departure{version, id})
		}
		changes++
	}
	if changes == 0 {
		return
	}
	p.version, p.next = version, now.Add(presencePeriod)
	clear(p.frames)
	for len(p.gone) > maxGone {
		p.complete = p.gone[0].version
		p.gone = p.gone[1:]
	}
	for s := range h.watchers {
		if s.line != nil {
			s.line.wakeLocked()
		}
	}
}

// changesLocked returns the users whose presence has changed since a version; partial is
// true then. If not all changes since are known, it returns all users who are not offline,
// and partial is false. The user but is left out.
func (h *Hub) changesLocked(since uint64, but protocol.UserID) (users []protocol.User, partial bool) {
	p := &h.presence
	partial = since > 0 && since >= p.complete
	here := func(id protocol.UserID) bool { u := h.users[id]; return u != nil && u.Presence != protocol.Offline }
	for _, u := range h.users {
		if u.ID != but && u.Presence != protocol.Offline && (!partial || u.version > since) {
			users = append(users, u.User)
		}
	}
	if !partial {
		return users, false
	}
	for i := len(p.gone) - 1; i >= 0 && p.gone[i].version > since; i-- {
		if id := p.gone[i].user; id != but && !here(id) {
			users = append(users, protocol.User{ID: id, Presence: protocol.Offline})
		}
	}
	return users, true
}

// presenceFrameLocked returns the message that brings a client from a version to the
// newest.
func (h *Hub) presenceFrameLocked(since uint64) []byte {
	frame := h.presence.frames[since]
	if frame == nil {
		users, partial := h.changesLocked(since, "")
		frame = protocol.Encode(&protocol.PresenceChange{At: h.presence.cursor(), All: !partial, Users: users})
		h.presence.frames[since] = frame
	}
	return frame
}
