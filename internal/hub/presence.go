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
	// presenceDelay is how long the first change after a quiet time waits for others,
	// such as the other party's of the same call; presencePeriod is the time from one
	// announcement to the next.
	presenceDelay  = 50 * time.Millisecond
	presencePeriod = time.Second
	// maxChanges bounds one announcement; what is over waits for the next one. maxGone is
	// how many departures are remembered for clients that come back.
	maxChanges = 500
	maxGone    = 4096
)

// presence is what the hub tells of who is here. Changes are gathered and announced
// together, and an announcement counts up version. A client that names the version it
// has is told what changed since. Nothing waits for a client that is behind: it is told
// of the newest version when it takes frames again. Guarded by Hub.mu.
type presence struct {
	epoch   string // of this run of the hub: versions of another one say nothing
	version uint64
	// pending are the users who changed since the last announcement, as it left them.
	pending map[protocol.UserID]protocol.User
	// gone are users who were announced as offline, oldest first. What was announced up to
	// complete is no longer known in full.
	gone     []departure
	complete uint64
	// frames are messages of this version, by the version that their receiver has.
	frames map[uint64][]byte
	next   time.Time     // when the next announcement may be made
	wake   chan struct{} // of one element: something is pending
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

// cursor names what a client knows that was told of this version.
func (p *presence) cursor() string { return fmt.Sprintf("%s.%d", p.epoch, p.version) }

// since is the version that a client's cursor names; 0 when that is none of ours.
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

// presenceLocked takes note when a user's presence or name is no longer what was
// announced.
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
			defer h.tell()
			h.mu.Lock()
			defer h.mu.Unlock()
			h.announceLocked(time.Now())
		})
	}
}

// announceLocked makes what is pending the next version, and wakes the lines of those
// who want to know.
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
				continue // there and back
			}
			u.version = version
		case was.Presence == protocol.Offline:
			continue // came and went
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

// changesLocked are the users whose presence changed since a version, and whether that is
// all there is to know; otherwise users are all who are here. One user is left out.
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

// presenceFrameLocked is a message that brings a client from a version to the newest.
func (h *Hub) presenceFrameLocked(since uint64) []byte {
	frame := h.presence.frames[since]
	if frame == nil {
		users, partial := h.changesLocked(since, "")
		frame = protocol.Encode(&protocol.PresenceChange{At: h.presence.cursor(), All: !partial, Users: users})
		h.presence.frames[since] = frame
	}
	return frame
}
