package socketio

import (
	"cmp"
	"encoding/json"
	"strconv"

	"github.com/visavis/visavis/protocol"
)

// pageEvent is what the events of a page may carry. A username in them is not read, because
// the server knows whose session this is.
type pageEvent struct {
	Target    label                 `json:"target"`
	Call      protocol.CallID       `json:"call"`
	Offer     *protocol.Description `json:"offer"`
	Answer    *protocol.Description `json:"answer"`
	Candidate *protocol.Candidate   `json:"candidate"`
}

// label is a name or an id as a page writes it: a string, or a number if the page numbers its
// users.
type label string

// UnmarshalJSON implements json.Unmarshaler.
func (l *label) UnmarshalJSON(text []byte) error {
	var number json.Number
	if len(text) > 0 && text[0] != '"' && json.Unmarshal(text, &number) == nil {
		*l = label(number)
		return nil
	}
	return json.Unmarshal(text, (*string)(l))
}

// event acts on an event of the page, unless it came too soon. If it returns an error, the
// page has been told of it.
func (p *page) event(name string, arg json.RawMessage, tooSoon *protocol.Error) *protocol.Error {
	if len(arg) == 0 {
		arg = json.RawMessage("null")
	}
	e := &pageEvent{}
	bad := json.Unmarshal(arg, e) != nil || len(e.Call) > protocol.MaxID
	refused := func() *protocol.Error {
		act := p.act(name)
		switch {
		case tooSoon != nil:
			return tooSoon
		case act == nil:
			return protocol.Errorf(protocol.CodeUnknownType, "this server knows no event of that name")
		case bad:
			return protocol.Errorf(protocol.CodeBadMessage, name+" comes with an object; a field of it is of the wrong kind")
		}
		return act(e)
	}()
	if refused == nil {
		return nil
	}
	about := *refused
	about.Call = cmp.Or(about.Call, e.Call)
	return p.fail(&about, string(e.Target))
}

// act returns the method for an event, or nil.
func (p *page) act(name string) func(*pageEvent) *protocol.Error {
	switch name {
	case "offer":
		return p.offer
	case "answer":
		return p.answer
	case "candidate":
		return p.candidate
	case "accept":
		return p.accept
	case "decline":
		return p.decline
	case "hangup":
		return p.hangup
	}
	return nil
}

// unnamed stands for the id of a call that has none yet, in messages that are only checked. An
// event that waits for its call must not turn out bad when the call has begun.
const unnamed = "unnamed"

func (p *page) offer(e *pageEvent) *protocol.Error {
	if e.Target == "" || e.Offer == nil {
		return protocol.Errorf(protocol.CodeBadMessage, "offer comes with {target, offer}: whom to call, and a description")
	}
	if bad := protocol.Check(&protocol.Offer{Call: unnamed, Description: *e.Offer}); bad != nil {
		return bad
	}
	c, d := p.call, p.dial
	switch {
	case p.isRung() && !p.means(c, e.Target):
		return protocol.Errorf(protocol.CodeInCall, "somebody rings you; answer or decline first")
	case d != nil && (d.canceled || !p.means(d, e.Target)):
		return protocol.Errorf(protocol.CodeInCall, "you ring somebody already")
	case d != nil:
		d.describe(e.Offer.SDP)
		d.offer = e.Offer
		return nil
	case p.isRung(): // the two rings cross, and the switchboard merges them
	case c != nil && p.means(c, e.Target) && (!c.accepted || c.peerConnection == "" || c.peerConnection == peerConnectionOf(e.Offer.SDP)):
		if refused := p.say(&protocol.Offer{Call: c.id, Epoch: c.epoch, Description: *e.Offer}); refused != nil {
			return refused
		}
		c.describe(e.Offer.SDP)
		c.open = false
		return nil
	case c != nil:
		// Such a page does not say that a call is over. It closes its peer connection and
		// makes an offer with another one.
		if refused := p.hangUp(c); refused != nil {
			return refused
		}
	}
	return p.ring(e)
}

// hangUp ends a call of the page, also one that the hub no longer knows.
func (p *page) hangUp(c *pageCall) *protocol.Error {
	if refused := p.say(&protocol.Hangup{Call: c.id}); refused != nil && refused.Code != protocol.CodeUnknownCall {
		return refused
	}
	p.leaveIf(c)
	return nil
}

// ring rings the target of an offer.
func (p *page) ring(e *pageEvent) *protocol.Error {
	p.rings++
	d := &pageCall{ref: "page" + strconv.Itoa(p.rings), target: string(e.Target), caller: true, offer: e.Offer}
	d.describe(e.Offer.SDP)
	if refused := p.say(&protocol.Ring{Ref: d.ref, To: p.find(d.target), Video: d.video, NoRelay: true}); refused != nil {
		return refused
	}
	for _, early := range p.early {
		if early.target == d.target && belongs(early.candidate, e.Offer.SDP) {
			d.mine = append(d.mine, early.candidate)
		}
	}
	p.early = nil
	p.dial = d
	return nil
}

func (p *page) answer(e *pageEvent) *protocol.Error {
	if e.Answer == nil {
		return protocol.Errorf(protocol.CodeBadMessage, "answer comes with {target, answer}: whom, and a description")
	}
	c := p.call
	if c == nil || !p.means(c, e.Target) {
		return protocol.Errorf(protocol.CodeUnknownCall, "there is no call with them to answer")
	}
	answer := &protocol.Answer{Call: c.id, Epoch: c.epoch, Description: *e.Answer}
	if bad := protocol.Check(answer); bad != nil {
		return bad
	}
	if c.caller && !c.accepted {
		return protocol.Errorf(protocol.CodeWrongState, "they have not accepted yet")
	}
	if !c.accepted {
		if refused := p.say(&protocol.Accept{Call: c.id}); refused != nil {
			return refused
		}
		c.accepted = true
	}
	if refused := p.say(answer); refused != nil {
		return refused
	}
	c.describe(e.Answer.SDP)
	p.sendMine(c)
	p.openFor(c)
	return nil
}

func (p *page) candidate(e *pageEvent) *protocol.Error {
	if e.Candidate == nil {
		return nil // the end of candidates, from a page that does not filter it out
	}
	m := &protocol.Candidates{Call: unnamed, Candidates: []protocol.Candidate{*e.Candidate}}
	if bad := protocol.Check(m); bad != nil {
		return bad
	}
	c := p.call
	if c == nil || !p.means(c, e.Target) {
		c = p.dial
	}
	tooMany := protocol.Errorf(protocol.CodeBadMessage, "more than 100 candidates for one description")
	switch {
	case c == nil || !p.means(c, e.Target):
		if len(p.early) >= protocol.MaxCandidates {
			return tooMany
		}
		p.early = append(p.early, earlyCandidate{string(e.Target), *e.Candidate})
	case c.sent:
		m.Call, m.Epoch = c.id, c.epoch
		return p.say(m)
	case len(c.mine) >= protocol.MaxCandidates:
		return tooMany
	default:
		c.mine = append(c.mine, *e.Candidate)
	}
	return nil
}

func (p *page) accept(e *pageEvent) *protocol.Error {
	id, refused := p.named(e)
	if refused == nil {
		refused = p.say(&protocol.Accept{Call: id})
	}
	if c := p.current(id); refused == nil && c != nil && !c.caller {
		c.accepted = true
	}
	return refused
}

func (p *page) decline(e *pageEvent) *protocol.Error {
	id, refused := p.named(e)
	if refused == nil {
		refused = p.say(&protocol.Decline{Call: id})
	}
	if refused == nil && p.isRung() {
		p.leaveIf(p.current(id))
	}
	return refused
}

func (p *page) hangup(e *pageEvent) *protocol.Error {
	if e.Call == "" && p.call == nil && p.dial != nil {
		p.dial.canceled = true
		return nil
	}
	id, refused := p.named(e)
	if refused == nil {
		refused = p.say(&protocol.Hangup{Call: id})
	}
	if refused == nil {
		p.leaveIf(p.current(id))
	}
	return refused
}

// named returns the id of the call that an event is about: the one that it names, or the page's.
func (p *page) named(e *pageEvent) (protocol.CallID, *protocol.Error) {
	switch {
	case e.Call != "":
		return e.Call, nil
	case p.call != nil:
		return p.call.id, nil
	}
	return "", protocol.Errorf(protocol.CodeUnknownCall, "you are in no call")
}
