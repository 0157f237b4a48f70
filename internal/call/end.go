package call

import (
	"cmp"
	"time"

	"github.com/visavis/visavis/protocol"
)

// leave ends a call of which a party, in whatever session, goes to another call. The callee is
// in no call before they accept it, and leaves none.
func (c *Call) leave(in Input, now time.Time) []Output {
	switch {
	case c.state == Active && in.Next != "":
		c.next = in.Next
		return c.end(protocol.ReasonMigrated, in.User.ID, now)
	case c.state == Active:
		return c.end(protocol.ReasonHungup, in.User.ID, now)
	case in.User.ID == c.caller.user.ID:
		return c.end(protocol.ReasonCanceled, in.User.ID, now)
	}
	return nil
}

// block ends a call because one party has blocked the other. The blocked party does not
// learn why: they are told "unreachable", "canceled" or "hungup".
func (c *Call) block(in Input, now time.Time) []Output {
	if c.state == Ringing && in.User.ID == c.callee.user.ID {
		return c.end(protocol.ReasonBlocked, "", now)
	}
	return c.leave(in, now)
}

// signOut ends a call of a party that is nobody any more.
func (c *Call) signOut(in Input, now time.Time) []Output {
	if c.state == Ringing && in.User.ID == c.callee.user.ID {
		return c.end(protocol.ReasonUnreachable, "", now)
	}
	return c.leave(in, now)
}

// drop ends a call of which nobody has heard.
func (c *Call) drop(reason protocol.EndReason, now time.Time) []Output {
	c.state, c.reason, c.endedAt = Ended, reason, now
	return append(stopTimers(), Drop{})
}

// outlive stops the timers of an active call, which a server that is about to restart leaves
// to the next one: its parties hold tickets.
func (c *Call) outlive(Input, time.Time) []Output { return stopTimers() }

func stopTimers() []Output {
	var out []Output
	for k := PushTimeout; k <= CalleeLostTimeout; k++ {
		out = append(out, StopTimer{k})
	}
	return out
}

func endAs(reason protocol.EndReason) func(*Call, Input, time.Time) []Output {
	return func(c *Call, _ Input, now time.Time) []Output { return c.end(reason, "", now) }
}

// end is the only way into Ended.
func (c *Call) end(reason protocol.EndReason, by protocol.UserID, now time.Time) []Output {
	wasActive := c.state == Active
	c.state, c.reason, c.by, c.endedAt = Ended, reason, by, now
	c.forgetHeld()
	// Who hears of the end finds it among their calls: the record is first.
	out := append([]Output{Finish{c.record()}}, stopTimers()...)
	out = append(out, c.caller.send(c.endedMessage())...)
	switch {
	case wasActive:
		out = append(out, c.callee.send(c.endedMessage())...)
	case c.rang:
		out = append(out, SendUser{User: c.callee.user.ID, Message: c.endedMessage()}, c.push(now))
	}
	return out
}

func (c *Call) tellEnded(in Input, _ time.Time) []Output {
	return []Output{Send{in.Session, c.endedMessage()}}
}

func (c *Call) endedMessage() *protocol.Ended {
	reason := c.reason
	if reason == protocol.ReasonBlocked {
		reason = protocol.ReasonUnreachable // nobody learns that they are blocked
	}
	return &protocol.Ended{
		Call: c.ID, Reason: reason, By: c.by, Detail: c.detail(), Next: c.next,
		DurationMs: c.record().Duration().Milliseconds(),
	}
}

// detail is why the call failed: of what the two parties say the one that tells more.
func (c *Call) detail() protocol.Detail {
	if c.reason != protocol.ReasonFailed {
		return ""
	}
	caller, callee := c.caller.media.Detail, c.callee.media.Detail
	for _, known := range []protocol.Detail{
		protocol.DetailDescription, protocol.DetailRelayFull, protocol.DetailRelayRefused,
		protocol.DetailRelayUnreachable, protocol.DetailNoAnswer, protocol.DetailNoPath,
	} {
		if caller == known || callee == known {
			return known
		}
	}
	return cmp.Or(caller, callee)
}

func (c *Call) record() Record {
	caller, callee := c.caller.user, c.callee.user
	caller.Presence, callee.Presence = "", ""
	return Record{
		Call: c.ID, Caller: caller, Callee: callee, Video: c.Video,
		RungAt: c.rungAt, AcceptedAt: c.acceptedAt, EndedAt: c.endedAt, Reason: c.reason, Detail: c.detail(),
	}
}
