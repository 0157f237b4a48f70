package call

import (
	"maps"
	"time"

	"golang.org/x/time/rate"

	"github.com/visavis/visavis/protocol"
)

// ring begins a call, or repeats the answer for one that this very message began.
func (s *Switchboard) ring(session protocol.SessionID, from protocol.User, m *protocol.Ring) *protocol.Error {
	fail := func(code protocol.Code, sentence string) *protocol.Error {
		e := protocol.Errorf(code, sentence)
		e.Ref = m.Ref
		return e
	}
	if m.Call != "" {
		return fail(protocol.CodeBadMessage, "a client does not choose the call's id")
	}
	if m.To == from.ID {
		return fail(protocol.CodeSelf, "you cannot ring yourself")
	}
	callee, here := s.cfg.Router.User(m.To)
	prefers, hides := s.cfg.Router.Prefers(m.To), s.cfg.Router.AlwaysRelays(session)
	reachable := here
	if !here {
		callee = protocol.User{ID: m.To}
		if s.cfg.Pusher != nil {
			var pushed protocol.User
			if pushed, prefers.DoNotDisturb, reachable = s.cfg.Pusher.Reachable(m.To); reachable {
				callee = pushed
			}
		}
		callee.Presence = protocol.Offline
	}
	now := time.Now()

	defer s.do()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fail(protocol.CodeRestarting, "the server is about to restart")
	}
	d := dial{
		ID: protocol.NewCallID(s.cfg.Node), Caller: from, Callee: callee, Session: session,
		Ref: m.Ref, Video: m.Video, rules: s.rules,
	}
	d.earlyAnswers = d.earlyAnswers && m.Early
	if c := s.calls[s.inCall[from.ID]]; c != nil {
		return s.ringAgainLocked(c, d, m, hides, now, fail)
	}
	if !s.mayRingLocked(from.ID, now) {
		return fail(protocol.CodeRateLimited, "you ring too often; wait a minute")
	}
	other := s.calls[s.inCall[m.To]]
	switch {
	case !reachable:
		d.Refused = protocol.ReasonUnreachable
	case prefers.DoNotDisturb:
		d.Refused = protocol.ReasonBusy
	case other == nil:
	case other.state == Active && prefers.WhenBusy != protocol.AnswerBusy && s.waiting[m.To] == "":
		d.Waiting = true
	default:
		d.Refused = protocol.ReasonBusy
	}
	begun, out := begin(d, now)
	c := &live{Call: begun}
	c.hide(session, hides)
	s.addLocked(c, out)
	return nil
}

// ringAgainLocked is a ring of someone who is in a call: the same ring once more,
// one to somebody who rings them at that moment, or one to whom they talk to.
func (s *Switchboard) ringAgainLocked(
	c *live, d dial, m *protocol.Ring, hides bool, now time.Time, fail func(protocol.Code, string) *protocol.Error,
) *protocol.Error {
	in := Input{User: d.Caller.ID, Session: d.Session, Message: m}
	same := c.mine(in).session == d.Session
	withThem := c.other(in).user.ID == m.To
	switch {
	case m.Ref != "" && c.ref == m.Ref && same && c.caller.user.ID == d.Caller.ID:
		s.pending = append(s.pending, Send{d.Session, c.callingMessage(now)})
	case withThem && c.state == Ringing && c.callee.user.ID == d.Caller.ID:
		in.Kind = Merge
		c.hide(d.Session, hides)
		s.stepLocked(c, in)
	case withThem && c.state == Active && (same || c.mine(in).away):
		migrated, out := migrate(c.Call, d, now)
		next := &live{Call: migrated, hiding: maps.Clone(c.hiding)}
		next.hide(d.Session, hides)
		c.next = next.ID
		s.takeLocked(c, c.end(protocol.ReasonMigrated, d.Caller.ID, now))
		s.addLocked(next, out)
	default:
		return fail(protocol.CodeInCall, "you are in a call already")
	}
	return nil
}

// maxRingers bounds the map of limiters; those that are full again say nothing
// and go first.
const maxRingers = 10_000

func (s *Switchboard) mayRingLocked(user protocol.UserID, now time.Time) bool {
	l := s.rings[user]
	if l == nil {
		if len(s.rings) >= maxRingers {
			for u, l := range s.rings {
				if l.TokensAt(now) >= float64(l.Burst()) {
					delete(s.rings, u)
				}
			}
		}
		per := s.cfg.RingsPerMinute
		l = rate.NewLimiter(rate.Every(time.Minute/time.Duration(per)), per)
		s.rings[user] = l
	}
	return l.AllowN(now, 1)
}
