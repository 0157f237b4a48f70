package socketio

import (
	"slices"

	"github.com/visavis/visavis/protocol"
)

// message acts on a message of the hub.
func (p *page) message(m protocol.Message) {
	switch m := m.(type) {
	case *protocol.Welcome:
		p.welcome(m)
	case *protocol.PresenceChange:
		p.presence(m)
	case *protocol.Ring:
		p.rung(m)
	case *protocol.Calling:
		p.calling(m)
	case *protocol.Merged:
		p.merged(m)
	case *protocol.Rejoin:
		p.rejoined(m)
	case *protocol.Ringing:
		if c := p.current(m.Call); c != nil {
			p.emit("ringing", p.about(c))
		}
	case *protocol.Accept:
		if c := p.current(m.Call); c != nil {
			c.accepted = true
			p.emit("accept", p.about(c))
		}
	case *protocol.Elsewhere:
		if c := p.whose(m.Call); c != nil {
			e := p.about(c)
			e.Act = m.Act
			p.emit("elsewhere", e)
			p.leaveIf(c)
		}
	case *protocol.Offer:
		if c := p.current(m.Call); c != nil && m.Epoch >= c.epoch {
			c.open, c.epoch = false, m.Epoch
			c.keepTheirs(m.Description.SDP)
			e := p.about(c)
			e.Offer = &m.Description
			p.emit("offer", e)
		}
	case *protocol.Answer:
		if c := p.current(m.Call); c != nil && m.Epoch >= c.epoch {
			c.epoch = m.Epoch
			c.keepTheirs(m.Description.SDP)
			e := p.about(c)
			e.Answer = &m.Description
			p.emit("answer", e)
			p.openFor(c)
		}
	case *protocol.Candidates:
		p.candidates(m)
	case *protocol.Ended:
		p.ended(m)
	case *protocol.Error:
		p.failed(m)
	}
}

func (p *page) welcome(m *protocol.Welcome) {
	p.me, p.timings, p.users = m.User, m.Timings, m.Users
	p.emit("welcome", struct {
		Session    protocol.SessionID   `json:"session"`
		User       protocol.User        `json:"user"`
		Token      string               `json:"token,omitempty"`
		ICEServers []protocol.ICEServer `json:"iceServers"`
		Timings    protocol.Timings     `json:"timings"`
	}{m.Session, m.User, m.Token, m.ICEServers, m.Timings})
	p.emitUsers()
}

func (p *page) presence(m *protocol.PresenceChange) {
	before := slices.Clone(p.users)
	if m.All {
		p.users = nil
	}
	for _, u := range m.Users {
		i := slices.IndexFunc(p.users, func(other protocol.User) bool { return other.ID == u.ID })
		switch {
		case u.ID == p.me.ID:
		case u.Presence == protocol.Offline && i >= 0:
			p.users = slices.Delete(p.users, i, i+1)
		case u.Presence == protocol.Offline:
		case i >= 0:
			p.users[i] = u
		default:
			p.users = append(p.users, u)
		}
	}
	if !slices.Equal(before, p.users) {
		p.emitUsers()
	}
}

func (p *page) emitUsers() {
	p.emit("users", append([]protocol.User{}, p.users...))
}

func (p *page) rung(m *protocol.Ring) {
	if c := p.whose(m.Call); c != nil || m.From == nil {
		return
	}
	if p.call != nil {
		p.leave()
	}
	p.call = &pageCall{id: m.Call, peer: *m.From}
	p.emit("ring", struct {
		callEvent
		User       protocol.UserID      `json:"user"`
		Video      bool                 `json:"video"`
		ICEServers []protocol.ICEServer `json:"iceServers,omitempty"`
	}{p.about(p.call), m.From.ID, m.Video, m.ICEServers})
	p.tell(&protocol.Ringing{Call: m.Call, Early: true})
}

func (p *page) calling(m *protocol.Calling) {
	c := p.dial
	if c == nil || c.ref != m.Ref {
		return
	}
	if p.call != nil {
		p.leave()
	}
	p.dial, p.call = nil, c
	c.id, c.peer = m.Call, m.To
	if c.canceled {
		p.tell(&protocol.Hangup{Call: c.id})
		p.leave()
		return
	}
	p.emit("calling", struct {
		callEvent
		ICEServers []protocol.ICEServer `json:"iceServers,omitempty"`
	}{p.about(c), m.ICEServers})
	p.tell(&protocol.Offer{Call: c.id, Description: *c.offer})
	c.offer = nil
	p.sendMine(c)
}

// merged takes the answer to our ring of a user who was ringing us. The page is in their call
// now, and its own offer is void. It answers their offer, which has come or is about to.
func (p *page) merged(m *protocol.Merged) {
	d := p.dial
	if d == nil || d.ref != m.Ref {
		return
	}
	p.dial = nil
	c := p.current(m.Call)
	if c == nil || d.canceled { // the page has hung up on them meanwhile
		p.tell(&protocol.Hangup{Call: m.Call})
		p.leaveIf(c)
		return
	}
	c.accepted = true
	c.mine = nil // of the void offer
	p.emit("merged", p.about(c))
	p.emit("accept", p.about(c))
}

// rejoined puts the page into a call for which it has not asked. The peer of an active call
// has rung again, and this is the call that goes on: the page answers the offer that
// follows. A page that has lost its session has told its user that the call is over, so it
// hangs up.
func (p *page) rejoined(m *protocol.Rejoin) {
	switch {
	case p.current(m.Call) != nil:
	case m.Call == p.next && m.Peer != nil && p.call == nil:
		p.call = &pageCall{id: m.Call, peer: *m.Peer, accepted: true, epoch: m.Epoch}
		p.emit("accept", p.about(p.call))
	default:
		p.tell(&protocol.Hangup{Call: m.Call})
	}
}

func (p *page) candidates(m *protocol.Candidates) {
	c := p.current(m.Call)
	if c == nil || m.Epoch < c.epoch {
		return
	}
	for _, candidate := range m.Candidates {
		switch {
		case c.open:
			p.emitCandidate(c, candidate)
		case len(c.theirs) < protocol.MaxCandidates:
			c.theirs = append(c.theirs, candidate)
		}
	}
}

func (p *page) ended(m *protocol.Ended) {
	c := p.whose(m.Call)
	if c == nil {
		c = &pageCall{id: m.Call}
	}
	if c.over {
		return // an answer to something late
	}
	c.over = true
	p.next = m.Next
	p.leaveIf(c)
	by := ""
	switch m.By {
	case "":
	case p.me.ID:
		by = p.me.Name
	default:
		by = c.name()
	}
	p.emitEnded(c, m.Reason, by, m.DurationMs)
}

func (p *page) emitEnded(c *pageCall, reason protocol.EndReason, by string, ms int64) {
	p.emit("ended", struct {
		callEvent
		Reason     protocol.EndReason `json:"reason"`
		By         string             `json:"by,omitempty"`
		DurationMs int64              `json:"durationMs"`
	}{p.about(c), reason, by, ms})
}

// lost tells the page that its session is a new one. The call and the ring of the one before have ended.
func (p *page) lost() {
	over := []*pageCall{p.call, p.dial}
	p.dial, p.call, p.past, p.next, p.early = nil, nil, nil, "", nil
	for _, c := range over {
		if c != nil {
			p.emitEnded(c, protocol.ReasonLost, "", 0)
		}
	}
}
