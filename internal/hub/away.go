package hub

import (
	"container/list"
	"time"

	"github.com/visavis/visavis/protocol"
)

// briefResume is how long a session waits for its client to come back when its user was
// in no call since they came: long enough for a reload or another network. The token in
// its welcome gives the client the same user in a new session after that; nothing is
// lost but news. So strangers who come and go leave little behind.
const briefResume = 20 * time.Second

// away are the sessions without connection, each list with the one first that has been
// away longest. Guarded by Hub.mu.
type away struct {
	brief list.List // of users who were in no call since they came
	long  list.List // of the others
}

func (a *away) len() int { return a.brief.Len() + a.long.Len() }

// add takes in a session whose connection has gone.
func (a *away) add(s *session) {
	if s.user.called {
		s.away = a.long.PushBack(s)
	} else {
		s.away = a.brief.PushBack(s)
	}
}

// remove takes a session out, if it is in.
func (a *away) remove(s *session) {
	if s.away != nil {
		a.brief.Remove(s.away)
		a.long.Remove(s.away)
		s.away = nil
	}
}

// expired is a session that has waited long enough; nil without one.
func (a *away) expired(now time.Time, resume time.Duration) *session {
	if s := first(&a.brief); s != nil && now.Sub(s.awaySince) >= min(briefResume, resume) {
		return s
	}
	if s := first(&a.long); s != nil && now.Sub(s.awaySince) >= resume {
		return s
	}
	return nil
}

// dispensable is the session that is missed least: that of a user who was in no call, or
// else of one who is in none now. A call ends with its party's session.
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

// leaving is a user whose last connection went, and who counts as offline after
// presenceGrace unless another one comes.
type leaving struct {
	user *user
	at   time.Time
}

// noteAwayLocked takes note of when the user's last connection went.
func (h *Hub) noteAwayLocked(u *user, now time.Time) {
	if u.noteAway(now) {
		h.leaving = append(h.leaving, leaving{u, now})
	}
}

// awayTickLocked ends the sessions that have waited long enough, and tells of the users
// who have gone.
func (h *Hub) awayTickLocked(now time.Time) {
	walked := 0
	for s := h.away.expired(now, h.resumeTime()); s != nil; s = h.away.expired(now, h.resumeTime()) {
		h.endLocked(s)
		walked++
		h.breatheLocked(walked)
	}
	for len(h.leaving) > 0 && now.Sub(h.leaving[0].at) >= presenceGrace {
		gone := h.leaving[0]
		h.leaving = h.leaving[1:]
		if gone.user.awaySince.Equal(gone.at) {
			h.presenceLocked(gone.user, now)
		}
		walked++
		h.breatheLocked(walked)
	}
}

func (h *Hub) resumeTime() time.Duration { return protocol.Duration(h.cfg.Timings.ResumeMs) }
