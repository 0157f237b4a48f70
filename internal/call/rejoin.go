package call

import (
	"context"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// rejoin puts a session into a call by a ticket. It may wait for the records.
func (s *Switchboard) rejoin(from origin.Origin, m *protocol.Rejoin) *protocol.Error {
	fail := func(code protocol.Code, sentence string) *protocol.Error {
		return &protocol.Error{Call: m.Call, Code: code, Message: sentence}
	}
	t, ok := openTicket(s.cfg.Secret, m.Ticket, time.Now())
	if !ok || t.Caller.User != from.User.ID && t.Callee.User != from.User.ID {
		return fail(protocol.CodeBadTicket, "the ticket is forged, expired or not yours")
	}
	if !s.knows(t.Call) {
		switch lives, err := s.lives(t); {
		case err != nil:
			s.cfg.Log.Warn("a ticket is refused for now: nothing proves that its call goes on", "call", t.Call, "err", err)
			return fail(protocol.CodeUnavailable, "the server cannot tell now whether that call goes on; ask again in some seconds")
		case !lives:
			return fail(protocol.CodeUnknownCall, "that call has ended")
		}
	}
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[t.Call]
	if c == nil {
		if s.closed {
			return fail(protocol.CodeRestarting, "the server is about to restart")
		}
		c = s.restoreLocked(t)
	}
	if !s.takePlaceLocked(c, from.User.ID) {
		return fail(protocol.CodeUnknownCall, "you are in another call by now")
	}
	s.stepLocked(c, Input{Kind: Rejoin, Origin: from, Message: m})
	if c.state != Ended { // the hub knew nobody to be busy when the call was restored
		s.pending = append(s.pending, setBusy{from.User.ID, true})
	}
	return nil
}

// recallFor bounds how long a rejoin waits for the records.
const recallFor = 2 * time.Second

func (s *Switchboard) knows(id protocol.CallID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id] != nil
}

// lives reports whether the records prove that the call of a ticket has not ended. The
// ticket alone proves only that the call was accepted.
func (s *Switchboard) lives(t ticket) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), recallFor)
	defer cancel()
	return s.cfg.Recorder.Lives(ctx, t.Call, time.UnixMilli(t.AcceptedAt))
}

// restoreLocked adds a call of an earlier run of the server. Each party is in the call, and
// busy, only after they have rejoined: see takePlaceLocked.
func (s *Switchboard) restoreLocked(t ticket) *live {
	restored, out := restore(t, s.rules)
	c := &live{Call: restored}
	s.calls[c.ID] = c
	s.applyLocked(c, out)
	return c
}

// takePlaceLocked makes a user who rejoins a call busy with it. It reports false for a user
// who is in another call by now.
func (s *Switchboard) takePlaceLocked(c *live, user protocol.UserID) bool {
	_, callee := c.Parties()
	switch id := s.inCall[user]; {
	case c.state == Ended, id == c.ID, c.state == Ringing && user == callee:
		return true
	case id != "":
		return false
	}
	s.inCall[user] = c.ID
	return true
}

// Restore adds the calls of an earlier run of this node that were accepted and have not
// ended. It must be called at most once, before the first connection. A party is in such a
// call only after they have rejoined with a ticket.
func (s *Switchboard) Restore(living []Record) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range living {
		s.restoreLocked(ticket{
			Call: r.Call, Video: r.Video, RungAt: r.RungAt.UnixMilli(), AcceptedAt: r.AcceptedAt.UnixMilli(),
			Caller: ticketParty{User: r.Caller.ID, Name: r.Caller.Name},
			Callee: ticketParty{User: r.Callee.ID, Name: r.Callee.Name},
		})
	}
}
