package hub

import (
	"container/list"
	"time"

	"github.com/visavis/visavis/protocol"
)

// briefResume is the resume window of a session whose user has been in no call since their
// first session here. It is long enough for a reload or a change of networks. After it the
// token in the welcome still gives the client the same user in a new session. The short
// window bounds the memory that passing visitors take.
const briefResume = 20 * time.Second

// away are the sessions without a connection. Each list begins with the session that lost
// its connection first. Guarded by Hub.mu.
type away struct {
	brief list.List // sessions whose resume window is briefResume
	long  list.List // the others
}

func (a *away) len() int { return a.brief.Len() + a.long.Len() }

// add adds a session that has lost its connection.
func (a *away) add(s *session) {
	if s.user.called {
		s.away = a.long.PushBack(s)
	} else {
		s.away = a.brief.PushBack(s)
	}
}

// remove removes a session, if it is there.
func (a *away) remove(s *session) {
	if s.away != nil {
		a.brief.Remove(s.away)
		a.long.Remove(s.away)
		s.away = nil
	}
}

// expired returns a session whose resume window is over, or nil.
func (a *away) expired(now time.Time, resume time.Duration) *session {
	if s := first(&a.brief); s != nil && now.Sub(s.awaySince) >= min(briefResume, resume) {
		return s
	}
	if s := first(&a.long); s != nil && now.Sub(s.awaySince) >= resume {
		return s
	}
	return nil
}

// dispensable returns the session that can end with the least harm, or nil. It prefers
// users who have been in no call, then those who are in none now. A party's call ends
// with the session, so the sessions of busy users are never returned.
func (a *away) dispensable(but *session) *session {
	for _, l := range []*list.List{&a.brief, &a.long} {
		for e := l.Front(); e != nil; e = e.Next() {
			if s := e.Value.(*session); !s.user.busy && s != but { //nolint:forcetypeassert // nothing else is in it
				return s
			}
		}
	}
	return nil
}

func first(l *list.List) *session {
	if e := l.Front(); e != nil {
		return e.Value.(*session) //nolint:forcetypeassert // nothing else is in it
	}
	return nil
}

// leaving is a user who has lost their last connection. After presenceGrace they count as
// offline, unless they have another connection by then.
type leaving struct {
	user *user
	at   time.Time
}

// noteAwayLocked updates awaySince of a user, and leaving.
func (h *Hub) noteAwayLocked(u *user, now time.Time) {
	if u.noteAway(now) {
		h.leaving = append(h.leaving, leaving{u, now})
	}
}

// awayTickLocked ends the sessions whose resume window is over, and makes users offline
// whose presenceGrace is over.
func (h *Hub) awayTickLocked(now time.Time) {
	walked := 0
	for s := h.away.expired(now, h.resumeTime()); s != nil; s = h.away.expired(now, h.resumeTime()) {
		h.endLocked(s)
		walked++
		h.yieldLocked(walked)
	}
	for len(h.leaving) > 0 && now.Sub(h.leaving[0].at) >= presenceGrace {
		gone := h.leaving[0]
		h.leaving = h.leaving[1:]
		if gone.user.awaySince.Equal(gone.at) {
			h.presenceLocked(gone.user, now)
		}
		walked++
		h.yieldLocked(walked)
	}
}

func (h *Hub) resumeTime() time.Duration { return protocol.Duration(h.cfg.Timings.ResumeMs) }
