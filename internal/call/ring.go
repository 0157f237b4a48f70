package call

import (
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// ring begins a call. If the same ring message has begun one already, it repeats the answer.
func (s *Switchboard) ring(from origin.Origin, m *protocol.Ring) *protocol.Error {
	fail := func(code protocol.Code, sentence string) *protocol.Error {
		e := protocol.Errorf(code, sentence)
		e.Ref = m.Ref
		return e
	}
	if m.Call != "" {
		return fail(protocol.CodeBadMessage, "a client does not choose the call's id")
	}
	user := from.User.ID
	if m.To == user {
		return fail(protocol.CodeSelf, "you cannot ring yourself")
	}
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.closed {
		return fail(protocol.CodeRestarting, "the server is about to restart")
	}
	if c := s.crossingLocked(user, m.To, ""); c != nil {
		s.stepLocked(c, Input{Kind: Merge, Origin: from, Message: m})
		return nil
	}
	d := dial{
		ID: protocol.NewCallID(s.cfg.Node), Caller: from, Callee: protocol.User{ID: m.To},
		Ref: m.Ref, Video: m.Video, NoRelay: m.NoRelay, rules: s.rules,
	}
	d.earlyAnswers = d.earlyAnswers && m.Early
	before := s.calls[s.inCall[user]]
	if before != nil && !before.waitsFor(user, m.To) {
		return s.ringAgainLocked(before, d, m, now, fail)
	}
	if refused := s.limits.ring(user, m.To, from.Address, now); refused != "" {
		return fail(protocol.CodeRateLimited, refused)
	}
	if before != nil {
		s.stepLocked(before, Input{Kind: Leave, Origin: from, Next: d.ID})
	}
	begun, out := begin(d, now)
	s.addLocked(&live{Call: begun}, out)
	return nil
}

// found hands the result of a look-up to its call, which then rings or ends.
func (s *Switchboard) found(id protocol.CallID, of account.Entry) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil || c.state != Looking {
		return
	}
	caller, to := c.Parties()
	inCall := s.inCall[to] != "" && !s.looksForLocked(to, caller)
	ringing := len(s.ringing[to])
	oneAtATime := of.Prefers.WhenBusy == protocol.AnswerBusy
	crossing := s.crossingLocked(caller, to, id)
	in := Input{Kind: Found, found: callee{user: of.User, stranger: !of.Knows}}
	switch {
	case crossing != nil:
		in.found.crossed = true
	case !of.Reachable:
		in.found.refused = protocol.ReasonUnreachable
	case of.Prefers.DoNotDisturb, oneAtATime && (inCall || ringing > 0), ringing >= maxRinging:
		in.found.refused = protocol.ReasonBusy
	default:
		in.found.waiting = inCall
		s.limits.disturbed(caller, to, time.Now())
	}
	if crossing == nil && in.found.refused == "" {
		s.ringing[to] = append(s.ringing[to], id)
	}
	s.stepLocked(c, in)
	switch {
	case crossing != nil:
		from := c.caller.origin()
		s.stepLocked(crossing, Input{Kind: Merge, Origin: from, Message: &protocol.Ring{Ref: c.ref}})
		if c.reloaded {
			s.stepLocked(crossing, Input{Kind: Rejoin, Origin: from})
		}
		if c.caller.away {
			s.stepLocked(crossing, Input{Kind: ConnectionLost, Origin: from})
		}
	case c.state == Ringing: // last: the callee's page must ring before it updates its list of users
		s.pending = append(s.pending, setBusy{caller, true})
	}
}

// maxRinging bounds the calls that ring one user at a time.
const maxRinging = 4

// crossingLocked returns the call by which to rings from, if from is about to ring to. It
// returns nil if there is none, or if from is in a call other than own.
func (s *Switchboard) crossingLocked(from, to protocol.UserID, own protocol.CallID) *live {
	if s.inCall[from] != own {
		return nil
	}
	for _, id := range s.ringing[from] {
		if caller, _ := s.calls[id].Parties(); caller == to {
			return s.calls[id]
		}
	}
	return nil
}

// looksForLocked reports whether a user is about to ring another one.
func (s *Switchboard) looksForLocked(user, other protocol.UserID) bool {
	c := s.calls[s.inCall[user]]
	return c != nil && c.state == Looking && c.callee.user.ID == other
}

// waitsFor reports whether the call is an active one of a user with another one, from an
// earlier run of the server, which the other one has not rejoined. A ring then begins a new
// call instead of migrating this one.
func (c *Call) waitsFor(user, other protocol.UserID) bool {
	s := c.other(Input{Origin: originOf(user)})
	return c.state == Active && s.user.ID == other && s.former
}

// ringAgainLocked handles a ring of a user who is in a call. It repeats the answer for the
// same ring message, migrates the call if they ring the other party again, and refuses
// any other ring.
func (s *Switchboard) ringAgainLocked(
	c *live, d dial, m *protocol.Ring, now time.Time, fail func(protocol.Code, string) *protocol.Error,
) *protocol.Error {
	in := Input{Origin: d.Caller, Message: m}
	caller := d.Caller.User.ID
	same := c.mine(in).session == d.Caller.Session
	switch {
	case m.Ref != "" && c.ref == m.Ref && same && c.caller.user.ID == caller:
		if c.state != Looking { // else the answer is on its way
			s.pending = append(s.pending, Send{d.Caller.Session, c.callingMessage(now)})
		}
	case c.other(in).user.ID == m.To && c.mayMigrate(in):
		if refused := s.limits.ring(caller, m.To, d.Caller.Address, now); refused != "" {
			return fail(protocol.CodeRateLimited, refused)
		}
		in.Kind, in.dial = Migrate, d
		s.stepLocked(c, in)
	default:
		return fail(protocol.CodeInCall, "you are in a call already")
	}
	return nil
}
