package call

import (
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// dial is what a new call is made of.
type dial struct {
	ID     protocol.CallID
	Caller origin.Origin
	Callee protocol.User
	Ref    string
	Video  bool
	// NoRelay says that the caller's page has no relay of ours.
	NoRelay bool
	rules
}

// callee is what a look-up has found of whom a caller rings.
type callee struct {
	user protocol.User
	// refused says why they cannot be rung; empty lets it ring.
	refused protocol.EndReason
	// crossed says that they ring the caller meanwhile: that call goes on, and this one never was.
	crossed bool
	// waiting says that they are in another call, stranger that they do not know the caller.
	waiting, stranger bool
}

// begin is a call whose callee is looked up.
func begin(d dial, now time.Time) (*Call, []Output) {
	c := newCall(d, now)
	return c, []Output{LookUp{c.ID, c.caller.user.ID, c.callee.user.ID}}
}

func newCall(d dial, now time.Time) *Call {
	c := &Call{
		ID: d.ID, Video: d.Video, ref: d.Ref, noRelay: d.NoRelay, rungAt: now, rules: d.rules,
		caller: side{user: d.Caller.User, session: d.Caller.Session, address: d.Caller.Address, hides: d.Caller.AlwaysRelay},
		callee: side{user: d.Callee},
	}
	c.caller.media = protocol.Media{Call: c.ID, Connection: protocol.Connecting, Audio: true, Video: d.Video}
	c.callee.media = c.caller.media
	return c
}

// found rings the callee, or ends the call at once. Only now the caller hears of the call: they
// wait as long for one who does not exist.
func (c *Call) found(in Input, now time.Time) []Output {
	if in.found.crossed {
		return c.drop(protocol.ReasonMerged, now)
	}
	c.state, c.rungAt, c.callee.user = Ringing, now, in.found.user
	c.waiting, c.stranger = in.found.waiting, in.found.stranger
	// Of a stranger's call no device parses a description or connects before accept.
	c.earlyAnswers = c.earlyAnswers && !c.stranger
	var out []Output
	if c.reloaded {
		out = append(out, Send{c.caller.session, c.rejoinMessage(&c.caller, now)})
	} else {
		out = append(out, Send{c.caller.session, c.callingMessage(now)})
	}
	if in.found.refused != "" {
		return append(out, c.end(in.found.refused, "", now)...)
	}
	c.rang = true
	return append(out,
		SendUser{User: c.callee.user.ID, Message: c.ringMessage(now)},
		c.push(now),
		SetTimer{PushTimeout, pushAgainAfter},
		SetTimer{RingTimeout, protocol.Duration(c.timings.RingMs)},
		SetTimer{UnreachableTimeout, protocol.Duration(c.timings.UnreachableMs)},
	)
}

// reload is the caller's page that was loaded anew while the callee is looked up.
func (c *Call) reload(in Input, _ time.Time) []Output {
	if in.User.ID != c.caller.user.ID {
		return nil
	}
	c.caller.attach(in)
	c.reloaded = true
	return []Output{StopTimer{CallerTimeout}}
}

// abandon is a caller who is gone, or wants something else, before anybody heard of the call.
func (c *Call) abandon(in Input, now time.Time) []Output {
	if in.User.ID != "" && in.User.ID != c.caller.user.ID {
		return nil
	}
	out := c.drop(protocol.ReasonCanceled, now)
	if in.Kind == Leave {
		out = append(out, c.refuseRing(protocol.CodeInCall, "you have gone to another call"))
	}
	return out
}

// dropAs ends the call before anybody heard of it, and answers the ring with an error.
func dropAs(code protocol.Code, sentence string) func(*Call, Input, time.Time) []Output {
	return func(c *Call, _ Input, now time.Time) []Output {
		return append(c.drop(protocol.ReasonFailed, now), c.refuseRing(code, sentence))
	}
}

func (c *Call) refuseRing(code protocol.Code, sentence string) Output {
	return Send{c.caller.session, &protocol.Error{Ref: c.ref, Code: code, Message: sentence}}
}

// migrate ends an active call of which a party rings the other one again. Another call between
// the two, which is active from the start, takes its place.
func (c *Call) migrate(in Input, now time.Time) []Output {
	if !c.mayMigrate(in) {
		return nil
	}
	next, begun := goingOn(c.other(in), in.dial, now)
	c.next = next.ID
	return append(c.end(protocol.ReasonMigrated, in.User.ID, now), GoOn{next, begun})
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
	c.callee = side{
		user: other.user, session: other.session, address: other.address, hides: other.hides,
		away: other.away, former: other.former, media: c.callee.media,
	}
	c.state, c.acceptedAt = Active, now
	out := []Output{
		Send{d.Caller.Session, c.callingMessage(now)},
		Send{d.Caller.Session, c.acceptMessage(false)},
		Send{c.callee.session, c.rejoinMessage(&c.callee, now)},
		SetTimer{ConnectTimeout, protocol.Duration(c.timings.ConnectMs)},
		Keep{c.record()},
	}
	if c.callee.away {
		out = append(out, SetTimer{CalleeLostTimeout, protocol.Duration(c.timings.PartyGraceMs)})
	}
	return c, c.filterAddresses(append(out, c.renewLater(0)...))
}

// restore is the call of a ticket, with both parties away and without a session: each is
// in it again only when they come back, by [Rejoin].
func restore(t ticket, r rules) (*Call, []Output) {
	c := newCall(dial{
		ID: t.Call, Caller: origin.Origin{User: t.Caller.user()}, Callee: t.Callee.user(), Video: t.Video, rules: r,
	}, time.UnixMilli(t.RungAt))
	c.state, c.acceptedAt = Active, time.UnixMilli(t.AcceptedAt)
	c.rang, c.confirmed, c.flowed = true, true, true
	c.caller.away, c.callee.away = true, true
	c.caller.former, c.callee.former = true, true
	grace := protocol.Duration(r.timings.PartyGraceMs)
	return c, append([]Output{SetTimer{CallerLostTimeout, grace}, SetTimer{CalleeLostTimeout, grace}}, c.renewLater(0)...)
}
