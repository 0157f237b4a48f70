package call

import (
	"context"
	"time"

	"github.com/visavis/visavis/protocol"
)

// rejoin takes up a call by its ticket.
func (s *Switchboard) rejoin(session protocol.SessionID, from protocol.User, m *protocol.Rejoin) *protocol.Error {
	fail := func(code protocol.Code, sentence string) *protocol.Error {
		return &protocol.Error{Call: m.Call, Code: code, Message: sentence}
	}
	t, ok := openTicket(s.cfg.Secret, m.Ticket, time.Now())
	if !ok || t.Caller.User != from.ID && t.Callee.User != from.ID {
		return fail(protocol.CodeBadTicket, "the ticket is forged, expired or not yours")
	}
	if !s.knows(t.Call) && s.hasEnded(t.Call) {
		return fail(protocol.CodeUnknownCall, "that call has ended")
	}
	hides := s.cfg.Router.AlwaysRelays(session)
	defer s.do()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[t.Call]
	if c == nil {
		if s.closed || s.inCall[t.Caller.User] != "" || s.inCall[t.Callee.User] != "" {
			return fail(protocol.CodeUnknownCall, "a party of that call is in another one")
		}
		restored, out := restore(t, s.rules)
		c = &live{Call: restored}
		s.addLocked(c, out)
	}
	c.hide(session, hides)
	s.stepLocked(c, Input{Kind: Rejoin, User: from.ID, Session: session, Message: m})
	if c.state != Ended { // the hub knew nobody to be busy when the call was restored
		s.pending = append(s.pending, setBusy{from.ID, true})
	}
	return nil
}

// recallFor bounds how long a ticket waits for the records.
const recallFor = 2 * time.Second

func (s *Switchboard) knows(id protocol.CallID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id] != nil
}

// hasEnded reports whether the records say that a call is over. Where they cannot
// be read its ticket is enough: a slow database ends no call.
func (s *Switchboard) hasEnded(id protocol.CallID) bool {
	ctx, cancel := context.WithTimeout(context.Background(), recallFor)
	defer cancel()
	ended, err := s.cfg.Recorder.Ended(ctx, id)
	if err != nil {
		s.cfg.Log.Warn("take up a call without its record", "call", id, "err", err)
	}
	return ended
}

// Restore takes on the accepted calls of an earlier run of this node, whose
// parties may come back: once, before anyone connects.
func (s *Switchboard) Restore(living []Record) {
	defer s.do()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range living {
		c, out := restore(ticket{
			Call: r.Call, Video: r.Video, RungAt: r.RungAt.UnixMilli(), AcceptedAt: r.AcceptedAt.UnixMilli(),
			Caller: ticketParty{User: r.Caller.ID, Name: r.Caller.Name},
			Callee: ticketParty{User: r.Callee.ID, Name: r.Callee.Name},
		}, s.rules)
		s.addLocked(&live{Call: c}, out)
	}
}
