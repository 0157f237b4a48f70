package call

import (
	"time"

	"github.com/visavis/visavis/protocol"
)

// dial is what a new call is made of.
type dial struct {
	ID             protocol.CallID
	Caller, Callee protocol.User
	Session        protocol.SessionID // the caller's
	Ref            string
	Video          bool
	// Waiting says that the callee is in another call.
	Waiting bool
	// Stranger says that the callee does not know the caller.
	Stranger bool
	// Refused ends the call before it rings anybody: why the callee cannot be
	// rung. Empty lets it ring.
	Refused protocol.EndReason
	rules
}

// begin is a call that begins to ring, or has ended at once as d.Refused.
func begin(d dial, now time.Time) (*Call, []Output) {
	c := newCall(d, now)
	out := []Output{Send{d.Session, c.callingMessage(now)}}
	if d.Refused != "" {
		return c, append(out, c.end(d.Refused, "", now)...)
	}
	c.rang = true
	return c, append(out,
		SendUser{User: d.Callee.ID, Message: c.ringMessage(now)},
		c.push(now),
		SetTimer{PushTimeout, pushAgainAfter},
		SetTimer{RingTimeout, protocol.Duration(d.timings.RingMs)},
		SetTimer{UnreachableTimeout, protocol.Duration(d.timings.UnreachableMs)},
	)
}

func newCall(d dial, now time.Time) *Call {
	c := &Call{
		ID: d.ID, Video: d.Video, ref: d.Ref, rungAt: now, waiting: d.Waiting, stranger: d.Stranger, rules: d.rules,
		caller: side{user: d.Caller, session: d.Session},
		callee: side{user: d.Callee},
	}
	c.caller.media = protocol.Media{Call: c.ID, Connection: protocol.Connecting, Audio: true, Video: d.Video}
	c.callee.media = c.caller.media
	return c
}

// migrate ends an active call of which a party rings the other one again. Another call between
// the two, which is active from the start, takes its place.
func (c *Call) migrate(in Input, now time.Time) []Output {
	if !c.mayMigrate(in) {
		return nil
	}
	next, begun := goingOn(c.other(in), in.dial, now)
	c.next = next.ID
	return append(c.end(protocol.ReasonMigrated, in.User, now), GoOn{next, begun})
}

// mayMigrate reports whether a party may take up an active call by ringing again: in the session
// that it talks in, or when that one is away, and only a call that both have come back to.
func (c *Call) mayMigrate(in Input) bool {
	mine := c.mine(in)
	return c.state == Active && (mine.session == in.Session || mine.away) && !mine.former && !c.other(in).former
}

// goingOn is the call in which somebody who rang again talks to the other party.
func goingOn(other *side, d dial, now time.Time) (*Call, []Output) {
	c := newCall(d, now)
	c.callee = side{user: other.user, session: other.session, away: other.away, former: other.former, media: c.callee.media}
	c.state, c.acceptedAt = Active, now
	out := []Output{
		Send{d.Session, c.callingMessage(now)},
		Send{d.Session, c.acceptMessage(false)},
		Send{c.callee.session, c.rejoinMessage(&c.callee, now)},
		SetTimer{ConnectTimeout, protocol.Duration(c.timings.ConnectMs)},
		Keep{c.record()},
	}
	if c.callee.away {
		out = append(out, SetTimer{CalleeLostTimeout, protocol.Duration(c.timings.PartyGraceMs)})
	}
	return c, append(out, c.renewLater(0)...)
}

// restore is the call of a ticket, with both parties away and without a session: each is
// in it again only when they come back, by [Rejoin].
func restore(t ticket, r rules) (*Call, []Output) {
	c := newCall(dial{
		ID: t.Call, Caller: t.Caller.user(), Callee: t.Callee.user(), Video: t.Video, rules: r,
	}, time.UnixMilli(t.RungAt))
	c.state, c.acceptedAt = Active, time.UnixMilli(t.AcceptedAt)
	c.rang, c.confirmed, c.flowed = true, true, true
	c.caller.away, c.callee.away = true, true
	c.caller.former, c.callee.former = true, true
	grace := protocol.Duration(r.timings.PartyGraceMs)
	return c, append([]Output{SetTimer{CallerLostTimeout, grace}, SetTimer{CalleeLostTimeout, grace}}, c.renewLater(0)...)
}
