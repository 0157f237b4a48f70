package call

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// Pusher reaches devices that need no open page, by Web Push. None of its methods blocks.
type Pusher interface {
	// Push tells every such device of a user how a call stands, but for those on which the
	// user sees a page, which it names: of what they were not told before. A device is told
	// once that a call rings. It answers a message of a call that rings by
	// [Switchboard.PushTaken] when a push service has taken it.
	Push(user protocol.UserID, m *protocol.Push, shown ...string)
}

// Push is a message to the devices of a user that need no open page. A page that was not
// heard since HeardSince does not count as open.
type Push struct {
	User       protocol.UserID
	Message    *protocol.Push
	HeardSince time.Time
}

func (Push) output() {}

// The acts of a device that was pushed a call.
const (
	actRinging = "ringing" // it rings
	actDecline = "decline" // the person declined there
	actAsk     = "ask"     // it only asks
)

// push tells the callee's devices how the call stands.
func (c *Call) push(now time.Time) Push {
	return Push{User: c.callee.user.ID, Message: c.pushMessage(now)}
}

// pushAgainAfter is how long a page that the callee sees may take to confirm that it
// rings. A page that is frozen, or whose connection died without a word, does not.
const pushAgainAfter = 2 * time.Second

// pushAgain tells the devices that were not told because of a page that the callee sees
// no more, or that has not been heard since it was rung.
func (c *Call) pushAgain(in Input, now time.Time) []Output {
	again := c.push(now)
	if in.Kind == PushTimeout {
		again.HeardSince = c.rungAt
	}
	return []Output{again}
}

// pushMessage is how the call stands for a device of the callee that has no session.
func (c *Call) pushMessage(now time.Time) *protocol.Push {
	from := c.caller.user
	from.Presence = ""
	m := &protocol.Push{Call: c.ID, State: c.pushState(), From: from, Video: c.Video}
	if m.State == protocol.PushRinging {
		m.RingMs, m.Key, m.Waiting = c.ringLeft(now), c.pushKey(c.ID, c.callee.user.ID), c.waiting
	}
	return m
}

func (c *Call) pushState() protocol.PushState {
	switch {
	case c.state == Ringing:
		return protocol.PushRinging
	case !c.acceptedAt.IsZero(), c.reason == protocol.ReasonDeclined:
		return protocol.PushElsewhere
	case c.reason.Missed():
		return protocol.PushMissed
	}
	return protocol.PushEnded
}

// pushTaken lets the call ring for its whole time: its callee has a device, which
// may take a while to wake up.
func (c *Call) pushTaken(Input, time.Time) []Output {
	c.pushed = true
	return []Output{StopTimer{UnreachableTimeout}}
}

// pushKey proves that whoever holds it was pushed that call as its callee: 16 bytes
// of an HMAC-SHA-256, which nobody guesses in the minutes that a call is known.
func pushKey(secret []byte, id protocol.CallID, callee protocol.UserID) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("visavis push\n" + string(id) + "\n" + string(callee)))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// busyAgain shows someone as busy who comes while they are in a call: nobody could
// while they had no session.
func (s *Switchboard) busyAgain(user protocol.UserID) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[s.inCall[user]]; c != nil && c.state != Looking {
		s.pending = append(s.pending, setBusy{user, true})
	}
}

// PushTaken says that a push service has taken the message of a call that rings.
func (s *Switchboard) PushTaken(id protocol.CallID) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		s.stepLocked(c, Input{Kind: PushTaken})
	}
}

// Pushed takes what a device does that was pushed a call, "ringing", "decline" or
// "ask", and answers how the call stands then. key is that of the push.
func (s *Switchboard) Pushed(id protocol.CallID, key, act string) (*protocol.Push, *protocol.Error) {
	fail := func(code protocol.Code, sentence string) (*protocol.Push, *protocol.Error) {
		return nil, &protocol.Error{Call: id, Code: code, Message: sentence}
	}
	kind, changes := Confirm, true
	switch act {
	case actRinging:
	case actDecline:
		kind = Decline
	case actAsk:
		changes = false
	default:
		return fail(protocol.CodeBadMessage, "act is none of ringing, decline, ask")
	}
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil || !c.rang || !hmac.Equal([]byte(key), []byte(c.pushKey(id, c.callee.user.ID))) {
		return fail(protocol.CodeUnknownCall, "there is no such call")
	}
	if changes {
		s.stepLocked(c, Input{Kind: kind, Origin: origin.Origin{User: c.callee.user}})
	}
	return c.pushMessage(time.Now()), nil
}
