package call

import (
	"context"
	"time"

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
	q := &question{session: session}
	defer s.do()
	callee, prefers, knows, reachable := s.find(m.To, from.ID, q)
	hides := s.cfg.Router.AlwaysRelays(session)

	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.questions, q)
	now := time.Now()
	if s.closed {
		return fail(protocol.CodeRestarting, "the server is about to restart")
	}
	d := dial{
		ID: protocol.NewCallID(s.cfg.Node), Caller: from, Callee: callee, Session: session,
		Ref: m.Ref, Video: m.Video, rules: s.rules,
	}
	// Of a stranger's call no device parses a description or connects before accept.
	d.earlyAnswers = d.earlyAnswers && m.Early && knows
	d.Stranger = !knows
	addr := s.cfg.Router.Address(session)
	if c := s.crossingLocked(from.ID, m.To); c != nil {
		c.hide(session, hides)
		s.stepLocked(c, Input{Kind: Merge, User: from.ID, Session: session, Message: m})
		return nil
	}
	before := s.calls[s.inCall[from.ID]]
	if before != nil && !before.waitsFor(from.ID, m.To) {
		return s.ringAgainLocked(before, d, m, hides, now, fail)
	}
	if refused := s.limits.ring(from.ID, m.To, addr, now); refused != "" {
		return fail(protocol.CodeRateLimited, refused)
	}
	if before != nil {
		s.stepLocked(before, Input{Kind: Leave, User: from.ID, Next: d.ID})
	}
	_, inCall := s.inCall[m.To]
	ringing := len(s.ringing[m.To])
	oneAtATime := prefers.WhenBusy == protocol.AnswerBusy
	switch {
	case !reachable:
		d.Refused = protocol.ReasonUnreachable
	case prefers.DoNotDisturb, oneAtATime && (inCall || ringing > 0), ringing >= maxRinging:
		d.Refused = protocol.ReasonBusy
	default:
		d.Waiting = inCall
		s.limits.disturbed(from.ID, m.To, now)
	}
	begun, out := begin(d, now)
	c := &live{Call: begun}
	c.hide(session, hides)
	s.addLocked(c, out)
	for _, tell := range q.missed {
		if c.state != Ended {
			tell(c)
		}
	}
	return nil
}

// maxRinging bounds the calls that ring one user at a time.
const maxRinging = 4

// crossingLocked is the call by which a user rings the one who is about to ring them; nil
// without one, or where the one about to ring is in a call.
func (s *Switchboard) crossingLocked(from, to protocol.UserID) *live {
	for _, id := range s.ringing[from] {
		if caller, _ := s.calls[id].Parties(); caller == to && s.inCall[from] == "" {
			return s.calls[id]
		}
	}
	return nil
}

// waitsFor reports whether an active call of a user with another one is from an earlier
// run of the server, and the other one has not come back. They are rung like anybody.
func (c *Call) waitsFor(user, other protocol.UserID) bool {
	s := c.other(Input{User: user})
	return c.state == Active && s.user.ID == other && s.former
}

// question is a ring that waits for what the records say of its callee.
type question struct {
	session protocol.SessionID // that rings; guarded by Switchboard.mu, as all below
	// missed is what became of that session meanwhile: there was no call to tell.
	missed []func(*live)
}

// find is the user whom a caller rings, what they want to become of it, whether they know
// the caller, and whether anything of theirs can ring. A user without a session is woken
// only for callers whom they know; any other caller, who waits as long for the answer, is
// told what they are told of a user who does not exist (semantics.md §4).
func (s *Switchboard) find(id, caller protocol.UserID, q *question) (
	u protocol.User, prefers protocol.Prefer, knows, reachable bool,
) {
	_, here := s.cfg.Router.User(id)
	switch { // before anything is looked at that a stranger's user may not have
	case here:
		knows = s.knowsCaller(id, caller, acquaintedHereFor, q)
	case s.cfg.Pusher != nil:
		knows = s.knowsCaller(id, caller, acquaintedFor, q)
	}
	u, here = s.cfg.Router.User(id) // who may have come, or gone, meanwhile
	if here {
		return u, s.cfg.Router.Prefers(id), knows, true
	}
	if knows {
		u, prefers.DoNotDisturb, reachable = s.cfg.Pusher.Reachable(id)
	}
	if !reachable {
		u = protocol.User{ID: id}
	}
	u.Presence = protocol.Offline
	return u, prefers, knows, reachable
}

const (
	// acquaintedFor bounds how long a ring of somebody without a session waits for the
	// records.
	acquaintedFor = time.Second
	// acquaintedHereFor is that of somebody who has one: they are rung in any case.
	acquaintedHereFor = 200 * time.Millisecond
)

// knowsCaller reports whether the records say that a user knows a caller. Where they
// cannot be read in time nobody is known: a slow database lets no stranger wake anybody.
func (s *Switchboard) knowsCaller(user, caller protocol.UserID, patience time.Duration, q *question) bool {
	s.mu.Lock()
	s.questions[q] = struct{}{}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	knows, err := s.cfg.Recorder.Knows(ctx, user, caller)
	if err != nil {
		s.cfg.Log.Warn("a caller counts as a stranger: the records cannot be read", "err", err)
	}
	return knows && err == nil
}

// ringAgainLocked is a ring of someone who is in a call: the same ring once more, or one
// to whom they talk to.
func (s *Switchboard) ringAgainLocked(
	c *live, d dial, m *protocol.Ring, hides bool, now time.Time, fail func(protocol.Code, string) *protocol.Error,
) *protocol.Error {
	in := Input{User: d.Caller.ID, Session: d.Session, Message: m}
	same := c.mine(in).session == d.Session
	switch {
	case m.Ref != "" && c.ref == m.Ref && same && c.caller.user.ID == d.Caller.ID:
		s.pending = append(s.pending, Send{d.Session, c.callingMessage(now)})
	case c.other(in).user.ID == m.To && c.mayMigrate(in):
		if refused := s.limits.ring(d.Caller.ID, m.To, s.cfg.Router.Address(d.Session), now); refused != "" {
			return fail(protocol.CodeRateLimited, refused)
		}
		c.hide(d.Session, hides)
		in.Kind, in.dial = Migrate, d
		s.stepLocked(c, in)
	default:
		return fail(protocol.CodeInCall, "you are in a call already")
	}
	return nil
}
