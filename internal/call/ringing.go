package call

import (
	"slices"
	"time"

	"github.com/visavis/visavis/protocol"
)

func (c *Call) confirm(in Input, _ time.Time) []Output {
	var out []Output
	if !c.confirmed {
		c.confirmed = true
		out = append(out, StopTimer{UnreachableTimeout}, Send{c.caller.session, &protocol.Ringing{Call: c.ID}})
	}
	if m, ok := in.Message.(*protocol.Ringing); ok && m.Early && !slices.Contains(c.early, in.Session) {
		c.early = append(c.early, in.Session)
		out = append(out, c.heldFor(in.Session)...)
	}
	return out
}

// heldFor is what the caller has sent so far, for a session of the callee.
// Before accept it sees no candidate but the relay's.
func (c *Call) heldFor(s protocol.SessionID) []Output {
	var out []Output
	if c.offer != nil {
		out = append(out, Send{s, c.earlyOffer()})
		out = append(out, c.sendCandidates(s, relayed(c.caller.held))...)
	}
	return out
}

func (c *Call) earlyOffer() *protocol.Offer {
	offer := *c.offer
	offer.Description = withoutAddresses(offer.Description)
	return &offer
}

func (c *Call) sendCandidates(to protocol.SessionID, candidates []protocol.Candidate) []Output {
	if len(candidates) == 0 {
		return nil
	}
	return []Output{Send{to, &protocol.Candidates{Call: c.ID, Epoch: c.epoch, Candidates: candidates}}}
}

// accept makes the session that won the callee's, and lets through what was held.
func (c *Call) accept(in Input, now time.Time) []Output {
	m, _ := in.Message.(*protocol.Accept)
	c.state, c.acceptedAt, c.callee.session = Active, now, in.Session
	c.callee.hides = in.AlwaysRelay || m != nil && m.RelayOnly
	early := c.answered == in.Session
	accepted := c.acceptMessage(early)
	out := []Output{
		StopTimer{PushTimeout},
		StopTimer{RingTimeout},
		StopTimer{UnreachableTimeout},
		StopTimer{CallerTimeout},
	}
	if in.Kind == Merge {
		ring, _ := in.Message.(*protocol.Ring)
		out = append(out, Send{in.Session, &protocol.Merged{Ref: ring.Ref, Call: c.ID, Ticket: accepted.Ticket}})
	} else {
		out = append(out, Send{in.Session, accepted})
	}
	out = append(out,
		SendUser{User: in.User.ID, Except: in.Session, Message: &protocol.Elsewhere{Call: c.ID, Act: protocol.ActAccepted}},
		c.push(now),
		Send{c.caller.session, accepted},
		SetTimer{ConnectTimeout, protocol.Duration(c.timings.ConnectMs)},
		Keep{c.record()},
	)
	switch {
	case early:
		// They are connected, over the relay. An ICE restart brings the candidates of a
		// direct path; those that are held would move the path twice within a second.
	case c.answered != "":
		// The connection is with another device: the caller makes a new one, with a
		// new offer. What is held belongs to the old one.
	case slices.Contains(c.early, in.Session):
		// This one has asked for the offer only, and may not know ICE restarts: all
		// candidates are of the first generation.
		out = append(out, c.sendCandidates(in.Session, c.caller.inline)...)
		out = append(out, c.sendCandidates(in.Session, direct(c.caller.held))...)
	case c.offer != nil:
		out = append(out, Send{in.Session, c.offer})
		out = append(out, c.sendCandidates(in.Session, c.caller.held)...)
	}
	media := c.caller.media
	out = append(out, Send{in.Session, &media})
	if c.caller.away {
		out = append(out, SetTimer{CallerLostTimeout, protocol.Duration(c.timings.PartyGraceMs)})
	}
	c.forgetHeld()
	return append(out, c.renewLater(now.Sub(c.rungAt))...)
}

func (c *Call) forgetHeld() {
	c.offer, c.early, c.answered = nil, nil, ""
	c.caller.held, c.caller.inline = nil, nil
	c.callee.held, c.callee.inline = nil, nil
}

func (c *Call) decline(in Input, now time.Time) []Output {
	out := c.end(protocol.ReasonDeclined, in.User.ID, now)
	for i, o := range out {
		if s, ok := o.(SendUser); ok {
			s.Except, s.Message = in.Session, &protocol.Elsewhere{Call: c.ID, Act: protocol.ActDeclined}
			out[i] = s
		}
	}
	return append(out, Send{in.Session, c.endedMessage()})
}

// giveUp is a hang-up while it rings.
func (c *Call) giveUp(in Input, now time.Time) []Output {
	switch {
	case in.User.ID == c.callee.user.ID:
		return c.decline(in, now)
	case in.Session != c.caller.session:
		return c.refuseOther(in)
	}
	return c.end(protocol.ReasonCanceled, in.User.ID, now)
}

func (c *Call) keepOffer(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Offer)
	if m.Epoch < c.epoch {
		return nil // of a peer connection that is no more
	}
	early := c.early
	c.forgetHeld()
	c.offer, c.epoch, c.early = m, m.Epoch, early
	c.caller.inline, c.caller.candidates = inline(m.Description), 0
	return c.sendEarly(c.earlyOffer())
}

// answerEarly lets the first device that answers connect before anyone accepts.
func (c *Call) answerEarly(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Answer)
	if !c.earlyAnswers || c.offer == nil || m.Epoch != c.epoch ||
		!slices.Contains(c.early, in.Session) || c.answered != "" && c.answered != in.Session {
		return c.refuse(in, protocol.CodeWrongState, "the call must be accepted first")
	}
	c.answered = in.Session
	c.callee.held, c.callee.inline = nil, inline(m.Description)
	answer := *m
	answer.Description = withoutAddresses(m.Description)
	return []Output{Send{c.caller.session, &answer}}
}

// keepCandidates holds candidates until accept, and lets the relay's through to
// those who connect early.
func (c *Call) keepCandidates(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Candidates)
	ofCaller := in.User.ID == c.caller.user.ID
	switch {
	case ofCaller && in.Session != c.caller.session, !ofCaller && in.Session != c.answered:
		return c.refuseOther(in)
	case m.Epoch != c.epoch:
		return nil // of a peer connection that is no more
	case !c.mine(in).count(m):
		return c.refuse(in, protocol.CodeBadMessage, "more than 100 candidates for one description")
	}
	c.mine(in).held = append(c.mine(in).held, m.Candidates...)
	if !ofCaller {
		return c.sendCandidates(c.caller.session, relayed(m.Candidates))
	}
	var out []Output
	for _, s := range c.early {
		out = append(out, c.sendCandidates(s, relayed(m.Candidates))...)
	}
	return out
}

func (c *Call) sendEarly(m protocol.Message) []Output {
	var out []Output
	for _, s := range c.early {
		out = append(out, Send{s, m})
	}
	return out
}

// rejoinRinging is the caller's page that was loaded anew; the callee's new
// session rings by itself.
func (c *Call) rejoinRinging(in Input, now time.Time) []Output {
	if in.User.ID != c.caller.user.ID {
		return nil
	}
	c.caller.attach(in)
	early := c.early
	c.forgetHeld()
	c.early = early
	return []Output{StopTimer{CallerTimeout}, Send{in.Session, c.rejoinMessage(&c.caller, now)}}
}

func (c *Call) keepMedia(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Media)
	c.caller.media = *m
	return nil
}

// shortestRing is the least time left that is worth beginning to ring a device
// for; Matrix' number.
const shortestRing = 3 * time.Second

func (c *Call) ringToo(in Input, now time.Time) []Output {
	ring := c.ringMessage(now)
	if protocol.Duration(ring.RingMs) < shortestRing {
		return nil
	}
	return []Output{Send{in.Session, ring}}
}

func (c *Call) callerLost(Input, time.Time) []Output {
	c.caller.away = true
	return []Output{SetTimer{CallerTimeout, protocol.Duration(c.timings.CallerGraceMs)}}
}

func (c *Call) callerBack(Input, time.Time) []Output {
	c.caller.away = false
	return []Output{StopTimer{CallerTimeout}}
}
