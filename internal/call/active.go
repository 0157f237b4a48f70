package call

import (
	"slices"
	"time"

	"github.com/visavis/visavis/protocol"
)

// tellAccepted answers the callee's sessions that are late: the one that has the
// call, that it has; the others, that it was taken elsewhere.
func (c *Call) tellAccepted(in Input, _ time.Time) []Output {
	if in.Session != c.callee.session {
		return []Output{Send{in.Session, &protocol.Elsewhere{Call: c.ID, Act: protocol.ActAccepted}}}
	}
	switch in.Kind {
	case Accept:
		return []Output{Send{in.Session, c.acceptMessage(false)}}
	case Decline:
		return c.refuse(in, protocol.CodeWrongState, "the call was accepted; hang up instead")
	}
	return nil
}

// hangUp ends the call when the party did, also where they could not say so at
// once; not before it began, nor before the party's absence could be noticed.
func (c *Call) hangUp(in Input, now time.Time) []Output {
	if m, ok := in.Message.(*protocol.Hangup); ok {
		longest := min(now.Sub(c.acceptedAt), protocol.Duration(c.timings.PartyGraceMs))
		now = now.Add(-min(protocol.Duration(m.AgoMs), max(longest, 0)))
		if m.Detail != "" && !c.flowed {
			c.mine(in).media.Detail = m.Detail
			return c.end(protocol.ReasonFailed, "", now)
		}
	}
	return c.end(protocol.ReasonHungup, in.User.ID, now)
}

func (c *Call) passDescription(in Input, _ time.Time) []Output {
	switch m := in.Message.(type) {
	case *protocol.Offer:
		c.epoch = max(c.epoch, m.Epoch)
	case *protocol.Answer:
		c.epoch = max(c.epoch, m.Epoch)
	}
	c.mine(in).candidates = 0
	c.other(in).missed = nil
	return c.other(in).sendOrKeep(in.Message)
}

func (c *Call) passCandidates(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Candidates)
	if !c.mine(in).count(m) {
		return c.refuse(in, protocol.CodeBadMessage, "more than 100 candidates for one description")
	}
	return c.other(in).sendOrKeep(m)
}

// tell sends a party what the other one describes, or keeps it until they are back.
func (s *side) sendOrKeep(m protocol.Message) []Output {
	if s.former {
		s.missed = append(s.missed, m)
	}
	return s.send(m)
}

// say sends a party something, unless they have not come back since the server started.
func (s *side) send(m protocol.Message) []Output {
	if s.former {
		return nil
	}
	return []Output{Send{s.session, m}}
}

func (c *Call) passMedia(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Media)
	c.mine(in).media = *m
	out := c.other(in).send(m)
	if !c.flowed && c.caller.connected() && c.callee.connected() {
		c.flowed = true
		out = append(out, StopTimer{ConnectTimeout})
	}
	return append(out, c.watchMedia()...)
}

// watchMedia times the absence of media while both parties are here; while one
// is away its own time runs. A party that does not miss media when the other does
// may be away too, on a machine that sleeps and keeps its connection: it has the
// time of one that is.
func (c *Call) watchMedia() []Output {
	var patience int64
	caller, callee := c.caller.connected(), c.callee.connected()
	switch {
	case !c.flowed || c.caller.away || c.callee.away || caller && callee:
	case caller || callee:
		patience = c.timings.PartyGraceMs
	default:
		patience = c.timings.MediaLostMs
	}
	if patience == c.patience {
		return nil
	}
	c.patience = patience
	if patience == 0 {
		return []Output{StopTimer{MediaTimeout}}
	}
	return []Output{SetTimer{MediaTimeout, protocol.Duration(patience)}}
}

// partyLost begins a party's time: shorter for a page that was closed, because
// only a reload brings it back.
func (c *Call) partyLost(in Input, _ time.Time) []Output {
	s := c.mine(in)
	s.away = true
	media, grace := s.media, c.timings.PartyGraceMs
	media.Connection = protocol.Reconnecting
	if in.Kind == PageClosed {
		media.Connection, grace = protocol.Reloading, c.timings.ReloadMs
	}
	out := append(c.other(in).send(&media), SetTimer{c.lostTimeout(in), protocol.Duration(grace)})
	return append(out, c.watchMedia()...)
}

func (c *Call) partyBack(in Input, _ time.Time) []Output {
	s := c.mine(in)
	s.away = false
	media := s.media
	out := append([]Output{StopTimer{c.lostTimeout(in)}}, c.refresh(s)...)
	out = append(out, c.other(in).send(&media)...)
	return append(out, c.watchMedia()...)
}

// renew replaces the relay credentials of both parties, for as long as the call lives.
func (c *Call) renew(Input, time.Time) []Output {
	return slices.Concat(c.refresh(&c.caller), c.refresh(&c.callee), c.renewLater(0))
}

// rejoin puts a new session of a party in the place of its old one: a page that
// was loaded anew, or one that has shown its ticket.
func (c *Call) rejoin(in Input, now time.Time) []Output {
	s := c.mine(in)
	out := []Output{StopTimer{c.lostTimeout(in)}}
	if s.session != in.Session {
		out = append(out, s.send(&protocol.Elsewhere{Call: c.ID, Act: protocol.ActAccepted})...)
	}
	s.attach(in)
	media := c.other(in).media
	if c.other(in).away {
		media.Connection = protocol.Reconnecting
	}
	out = append(out, Send{in.Session, c.rejoinMessage(s, now)}, Send{in.Session, &media})
	for _, m := range s.missed {
		out = append(out, Send{in.Session, m})
	}
	s.former, s.missed = false, nil
	return append(out, c.watchMedia()...)
}

// attach makes a session the party's. A party that hid its addresses goes on hiding them.
func (s *side) attach(in Input) {
	m, _ := in.Message.(*protocol.Rejoin)
	s.session, s.away = in.Session, false
	s.hides = s.hides || in.AlwaysRelay || m != nil && m.RelayOnly
}

func (c *Call) lostTimeout(in Input) Kind {
	if in.User.ID == c.caller.user.ID {
		return CallerLostTimeout
	}
	return CalleeLostTimeout
}

// count adds to a party's candidates unless they become too many.
func (s *side) count(m *protocol.Candidates) bool {
	if s.candidates+len(m.Candidates) > protocol.MaxCandidates {
		return false
	}
	s.candidates += len(m.Candidates)
	return true
}
