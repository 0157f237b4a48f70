package edge

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/visavis/visavis/protocol"
)

// page translates between the messages of a session and the events of a page that
// knows no calls: its offer is a ring with a description, its answer an accept.
//
//	offer      → ring, then offer once calling has named the call
//	answer     → accept, answer, media
//	candidate  → candidate, as soon as the other party can have it
//	ring       → ring; ringing{early} says that the offer may come
//	candidate  → candidate events, as soon as the page can take them
//
// It has no lock: its owner lets one event or message in at a time.
type page struct {
	emit func(event string, payload any)     // to the page
	say  func(protocol.Message)              // to the hub
	find func(target string) protocol.UserID // whom a target means

	me      protocol.User
	timings protocol.Timings
	users   []protocol.User // who else is here
	rings   int             // said so far

	dial *pageCall // our ring that is not answered yet
	call *pageCall // the call that the page is in, or is rung by
	past *pageCall // the one before, so that what comes late can be told whose it was

	// early are candidates for someone whom the page has not sent an offer yet: an
	// offer may be sent after gathering has begun.
	early       []protocol.Candidate
	earlyTarget string
}

// pageCall is a call as far as its page must not care.
type pageCall struct {
	id     protocol.CallID // once it is named
	ref    string          // of our ring
	peer   protocol.User
	target string // what the page calls the peer, if it has

	caller, accepted, video bool
	canceled                bool // hung up before it was named
	over                    bool // ended was emitted

	// connection is the session id in the page's descriptions, one for each of its
	// peer connections.
	connection string
	offer      *protocol.Description // waits for the name
	mine       []protocol.Candidate  // wait for the page's first description to go
	gone       bool                  // it went
	theirs     []protocol.Candidate  // wait for the page to be able to take them
	open       bool                  // it is
}

// pageEvent is what the events of a page may carry. Its username is not read: who
// it is, is known.
type pageEvent struct {
	Target    string                `json:"target"`
	Call      protocol.CallID       `json:"call"`
	Offer     *protocol.Description `json:"offer"`
	Answer    *protocol.Description `json:"answer"`
	Candidate *protocol.Candidate   `json:"candidate"`
}

// event acts on an event of the page. What it returns the page has been told, too.
func (p *page) event(name string, arg json.RawMessage) *protocol.Error {
	if len(arg) == 0 {
		arg = json.RawMessage("null")
	}
	e := &pageEvent{}
	refused := func() *protocol.Error {
		act := p.act(name)
		if act == nil {
			return protocol.Errorf(protocol.CodeUnknownType, "this server knows no event of that name")
		}
		if json.Unmarshal(arg, e) != nil || len(e.Call) > protocol.MaxID {
			return protocol.Errorf(protocol.CodeBadMessage, name+" comes with an object; a field of it is of the wrong kind")
		}
		return act(e)
	}()
	if refused != nil {
		refused.Call = e.Call
		p.fail(refused, e.Target)
	}
	return refused
}

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

// fail tells the page what went wrong.
func (p *page) fail(e *protocol.Error, target string) {
	p.emit("error", struct {
		Code    protocol.Code   `json:"code"`
		Message string          `json:"message"`
		Call    protocol.CallID `json:"call,omitempty"`
		Target  string          `json:"target,omitempty"`
	}{e.Code, e.Message, e.Call, target})
}

// check is what the hub would say of a message: what waits here for its call must
// not turn out bad when that has begun.
func check(m protocol.Message) *protocol.Error {
	if _, _, err := protocol.Decode(protocol.Encode(m)); err != nil {
		e := listed(err)
		return protocol.Errorf(e.Code, e.Message)
	}
	return nil
}

// unnamed stands for a call's id where a message is only checked.
const unnamed = "unnamed"

func (p *page) offer(e *pageEvent) *protocol.Error {
	if e.Target == "" || e.Offer == nil {
		return protocol.Errorf(protocol.CodeBadMessage, "offer comes with {target, offer}: whom to call, and a description")
	}
	if bad := check(&protocol.Offer{Call: unnamed, Description: *e.Offer}); bad != nil {
		return bad
	}
	c, d := p.call, p.dial
	switch {
	case c != nil && !c.caller && !c.accepted:
		return protocol.Errorf(protocol.CodeInCall, "somebody rings you; answer or decline first")
	case d != nil && (d.canceled || !p.means(d, e.Target)):
		return protocol.Errorf(protocol.CodeInCall, "you ring somebody already")
	case d != nil:
		d.describe(e.Offer.SDP)
		d.offer = e.Offer
		return nil
	case c != nil && p.means(c, e.Target) && (!c.accepted || c.connection == "" || c.connection == connectionOf(e.Offer.SDP)):
		c.describe(e.Offer.SDP)
		c.open = false
		p.say(&protocol.Offer{Call: c.id, Description: *e.Offer})
		return nil
	case c != nil:
		// Such a page does not say that a call is over: it closes its peer connection
		// and makes an offer with another one.
		p.say(&protocol.Hangup{Call: c.id})
		p.leave()
	}
	p.ring(e)
	return nil
}

func (p *page) ring(e *pageEvent) {
	p.rings++
	d := &pageCall{ref: "page" + strconv.Itoa(p.rings), target: e.Target, caller: true, offer: e.Offer}
	d.describe(e.Offer.SDP)
	if p.earlyTarget == e.Target {
		d.mine = slices.DeleteFunc(p.early, func(c protocol.Candidate) bool { return !belongs(c, e.Offer.SDP) })
	}
	p.early, p.earlyTarget = nil, ""
	p.dial = d
	p.say(&protocol.Ring{Ref: d.ref, To: p.find(e.Target), Video: d.video})
}

func (p *page) answer(e *pageEvent) *protocol.Error {
	if e.Answer == nil {
		return protocol.Errorf(protocol.CodeBadMessage, "answer comes with {target, answer}: whom, and a description")
	}
	c := p.call
	if c == nil || !p.means(c, e.Target) {
		return protocol.Errorf(protocol.CodeUnknownCall, "there is no call with them to answer")
	}
	if bad := check(&protocol.Answer{Call: c.id, Description: *e.Answer}); bad != nil {
		return bad
	}
	switch {
	case c.caller && !c.accepted:
		return protocol.Errorf(protocol.CodeWrongState, "they have not accepted yet")
	case !c.accepted:
		c.accepted = true
		p.say(&protocol.Accept{Call: c.id})
	}
	c.describe(e.Answer.SDP)
	p.say(&protocol.Answer{Call: c.id, Description: *e.Answer})
	p.sendMine(c)
	p.openFor(c)
	return nil
}

func (p *page) candidate(e *pageEvent) *protocol.Error {
	if e.Candidate == nil {
		return nil // the end of candidates, from pages that do not look
	}
	if bad := check(&protocol.Candidates{Call: unnamed, Candidates: []protocol.Candidate{*e.Candidate}}); bad != nil {
		return bad
	}
	c := p.call
	if c == nil || !p.means(c, e.Target) {
		c = p.dial
	}
	wait := &p.early
	switch {
	case c != nil && p.means(c, e.Target):
		wait = &c.mine
	case p.earlyTarget != e.Target:
		p.early, p.earlyTarget = nil, e.Target
	}
	switch {
	case wait != &p.early && c.gone:
		p.say(&protocol.Candidates{Call: c.id, Candidates: []protocol.Candidate{*e.Candidate}})
	case len(*wait) < protocol.MaxCandidates:
		*wait = append(*wait, *e.Candidate)
	default:
		return protocol.Errorf(protocol.CodeBadMessage, "more than 100 candidates for one description")
	}
	return nil
}

func (p *page) accept(e *pageEvent) *protocol.Error {
	id, refused := p.named(e)
	if refused == nil {
		if c := p.current(id); c != nil && !c.caller {
			c.accepted = true
		}
		p.say(&protocol.Accept{Call: id})
	}
	return refused
}

func (p *page) decline(e *pageEvent) *protocol.Error {
	id, refused := p.named(e)
	if refused == nil {
		p.say(&protocol.Decline{Call: id})
		if p.isRung() {
			p.leaveIf(p.current(id))
		}
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
		p.say(&protocol.Hangup{Call: id})
		p.leaveIf(p.current(id))
	}
	return refused
}

// named is the call that an event is about: the one it names, or the page's.
func (p *page) named(e *pageEvent) (protocol.CallID, *protocol.Error) {
	switch {
	case e.Call != "":
		return e.Call, nil
	case p.call != nil:
		return p.call.id, nil
	}
	return "", protocol.Errorf(protocol.CodeUnknownCall, "you are in no call")
}

// means reports whether a page that writes target means the peer of a call.
func (p *page) means(c *pageCall, target string) bool {
	return target == "" || target == c.target || target == c.peer.Name || target == string(c.peer.ID) ||
		c.peer.ID != "" && p.find(target) == c.peer.ID
}

// leave ends what the page has to do with its call.
func (p *page) leave() { p.past, p.call = p.call, nil }

func (p *page) isRung() bool { return p.call != nil && !p.call.caller && !p.call.accepted }

// describe takes note of a description of the page.
func (c *pageCall) describe(sdp string) {
	c.connection = connectionOf(sdp)
	c.video = hasVideo(sdp)
}

// sendMine sends the candidates that waited for the page's first description to go.
func (p *page) sendMine(c *pageCall) {
	c.gone = true
	if len(c.mine) > 0 {
		p.say(&protocol.Candidates{Call: c.id, Candidates: c.mine})
		c.mine = nil
	}
}

// openFor lets the candidates through to a page that now has both descriptions.
func (p *page) openFor(c *pageCall) {
	c.open = true
	for _, candidate := range c.theirs {
		p.emitCandidate(c, candidate)
	}
	c.theirs = nil
	// Such a page cannot say how its media stands, and a call without word of it ends as failed.
	p.say(&protocol.Media{Call: c.id, Connection: protocol.Connected, Audio: true, Video: c.video})
}

// message acts on a message of the hub.
func (p *page) message(m protocol.Message) {
	switch m := m.(type) {
	case *protocol.Welcome:
		p.welcome(m)
	case *protocol.PresenceChange:
		p.presence(m.User)
	case *protocol.Ring:
		p.rung(m)
	case *protocol.Calling:
		p.calling(m)
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
		if c := p.current(m.Call); c != nil {
			c.open = false
			c.keepTheirs(m.Description.SDP)
			e := p.about(c)
			e.Offer = &m.Description
			p.emit("offer", e)
		}
	case *protocol.Answer:
		if c := p.current(m.Call); c != nil {
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

// callEvent is what the page gets of a call: who the peer is and who it is itself,
// in the words of its own events.
type callEvent struct {
	Username  string                `json:"username"`
	Target    string                `json:"target"`
	Call      protocol.CallID       `json:"call"`
	Act       string                `json:"act,omitempty"`
	Offer     *protocol.Description `json:"offer,omitempty"`
	Answer    *protocol.Description `json:"answer,omitempty"`
	Candidate *protocol.Candidate   `json:"candidate,omitempty"`
}

func (p *page) about(c *pageCall) callEvent {
	return callEvent{Username: c.name(), Target: p.me.Name, Call: c.id}
}

// name is what the page knows the peer by.
func (c *pageCall) name() string { return cmp.Or(c.peer.Name, c.target) }

// current is the page's call, if it has that id.
func (p *page) current(id protocol.CallID) *pageCall {
	if p.call != nil && p.call.id == id {
		return p.call
	}
	return nil
}

// whose is the call of an id that the page is or was in.
func (p *page) whose(id protocol.CallID) *pageCall {
	for _, c := range []*pageCall{p.call, p.past} {
		if c != nil && c.id == id {
			return c
		}
	}
	return nil
}

func (p *page) leaveIf(c *pageCall) {
	if c != nil && c == p.call {
		p.leave()
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

func (p *page) presence(u protocol.User) {
	i := slices.IndexFunc(p.users, func(other protocol.User) bool { return other.ID == u.ID })
	switch {
	case u.Presence == protocol.Offline && i >= 0:
		p.users = slices.Delete(p.users, i, i+1)
	case u.Presence == protocol.Offline:
		return
	case i >= 0:
		p.users[i] = u
	default:
		p.users = append(p.users, u)
	}
	p.emitUsers()
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
	p.say(&protocol.Ringing{Call: m.Call, Early: true})
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
		p.say(&protocol.Hangup{Call: c.id})
		p.leave()
		return
	}
	p.emit("calling", struct {
		callEvent
		ICEServers []protocol.ICEServer `json:"iceServers,omitempty"`
	}{p.about(c), m.ICEServers})
	p.say(&protocol.Offer{Call: c.id, Description: *c.offer})
	c.offer = nil
	p.sendMine(c)
}

func (p *page) candidates(m *protocol.Candidates) {
	c := p.current(m.Call)
	if c == nil {
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

// keepTheirs drops the candidates that are not of the peer's newest description.
func (c *pageCall) keepTheirs(sdp string) {
	c.theirs = slices.DeleteFunc(c.theirs, func(t protocol.Candidate) bool { return !belongs(t, sdp) })
}

func (p *page) emitCandidate(c *pageCall, candidate protocol.Candidate) {
	if candidate.Candidate == "" {
		return // the addIceCandidate of older browsers throws at it
	}
	e := p.about(c)
	e.Candidate = &candidate
	p.emit("candidate", e)
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

// failed tells the page that the hub refused a message.
func (p *page) failed(m *protocol.Error) {
	target := ""
	if c := p.whose(m.Call); c != nil {
		target = c.name()
		if m.Code == protocol.CodeUnknownCall {
			p.leaveIf(c)
		}
	}
	if d := p.dial; d != nil && d.ref == m.Ref {
		target, p.dial = d.target, nil
	}
	p.fail(m, target)
}

// lost says that the session is not the one before, whose call has ended.
func (p *page) lost() {
	c := p.call
	p.dial, p.call, p.past = nil, nil, nil
	if c != nil {
		p.emitEnded(c, protocol.ReasonLost, "", 0)
	}
}

// connectionOf is the session id of a description's "o=" line, one for each peer
// connection (RFC 8829 §5.2.1).
func connectionOf(sdp string) string {
	for line := range strings.Lines(sdp) {
		if origin, ok := strings.CutPrefix(line, "o="); ok {
			if fields := strings.Fields(origin); len(fields) > 1 {
				return fields[1]
			}
		}
	}
	return ""
}

// hasVideo reports whether a description has video that is not refused (port 0).
func hasVideo(sdp string) bool {
	for line := range strings.Lines(sdp) {
		if strings.HasPrefix(line, "m=video ") && !strings.HasPrefix(line, "m=video 0 ") {
			return true
		}
	}
	return false
}

// belongs reports whether a candidate can be of a description: one that names
// another generation (RFC 8839 §5.4) is a leftover.
func belongs(c protocol.Candidate, sdp string) bool {
	fragment := ""
	if c.UsernameFragment != nil {
		fragment = *c.UsernameFragment
	} else if _, after, ok := strings.Cut(c.Candidate, " ufrag "); ok {
		fragment, _, _ = strings.Cut(after, " ")
	}
	return fragment == "" || strings.Contains(sdp, "a=ice-ufrag:"+fragment+"\r\n") ||
		strings.Contains(sdp, "a=ice-ufrag:"+fragment+"\n")
}
