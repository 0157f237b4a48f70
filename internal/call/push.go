package call

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// Pusher reaches devices without an open page, by Web Push. None of its methods blocks.
type Pusher interface {
	// Push sends the state of a call to the devices of a user. It leaves out the devices
	// named in shown, on which the user sees a page, unless they were told of the call
	// before. A device is told only once that a call rings. When a push service has taken
	// the message of a ringing call, the Pusher calls [Switchboard.PushTaken].
	Push(user protocol.UserID, m *protocol.Push, shown ...string)
}

// Push is a message to the devices of a user. A device is left out if the user sees a page on
// it that was heard at or after HeardSince.
type Push struct {
	User       protocol.UserID
	Message    *protocol.Push
	HeardSince time.Time
}

func (Push) output() {}

// The acts of a device that has received a push.
const (
	actRinging = "ringing" // the device rings
	actDecline = "decline" // the user has declined
	actAsk     = "ask"     // the device asks for the state of the call
)

// push returns the output that sends the state of the call to the callee's devices.
func (c *Call) push(now time.Time) Push {
	return Push{User: c.callee.user.ID, Message: c.pushMessage(now)}
}

// pushAgainAfter is how long a page that the callee sees may take to confirm that it
// rings. A frozen page, or one whose connection is dead, does not confirm.
const pushAgainAfter = 2 * time.Second

// pushAgain pushes to the devices that were left out because of a page that the callee sees
// no more, or that was not heard since the call began to ring.
func (c *Call) pushAgain(in Input, now time.Time) []Output {
	again := c.push(now)
	if in.Kind == PushTimeout {
		again.HeardSince = c.rungAt
	}
	return []Output{again}
}

// pushMessage returns the state of the call for a device of the callee without a session.
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

// pushTaken lets the call ring for its whole time, because the callee's device may take a
// while to wake up.
func (c *Call) pushTaken(Input, time.Time) []Output {
	c.pushed = true
	return []Output{StopTimer{UnreachableTimeout}}
}

// pushKey returns the key of a push. It proves that a device has received the push of that
// call for its callee. It is 16 bytes of an HMAC-SHA-256, too long to guess while the call
// is known.
func pushKey(secret []byte, id protocol.CallID, callee protocol.UserID) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("visavis push\n" + string(id) + "\n" + string(callee)))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// busyAgain makes a user who opens a session busy if they are in a call. The router does not
// remember that of a user without a session.
func (s *Switchboard) busyAgain(user protocol.UserID) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[s.inCall[user]]; c != nil && c.state != Looking {
		s.pending = append(s.pending, setBusy{user, true})
	}
}

// PushTaken tells the switchboard that a push service has taken the message of a ringing
// call.
func (s *Switchboard) PushTaken(id protocol.CallID) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		s.stepLocked(c, Input{Kind: PushTaken})
	}
}

// Pushed handles the act of a device that has received a push: "ringing", "decline" or
// "ask". It returns the state of the call after it. key is the key of the push. The error
// is for the device.
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
