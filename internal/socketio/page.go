package socketio

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
	emit func(event string, payload any)        // to the page
	say  func(protocol.Message) *protocol.Error // to the hub, which may refuse it and then has done nothing
	find func(target string) protocol.UserID    // whom a target means

	me      protocol.User
	timings protocol.Timings
	users   []protocol.User // who else is here
	rings   int             // said so far

	dial *pageCall       // our ring that the hub has taken and not answered yet
	call *pageCall       // the call that the page is in, or is rung by
	past *pageCall       // the one before, so that what comes late can be told whose it was
	next protocol.CallID // the call that takes the place of the past one

	// early are candidates for someone whom the page has not sent an offer yet: an
	// offer may be sent after gathering has begun.
	early []earlyCandidate
}

type earlyCandidate struct {
	target    string
	candidate protocol.Candidate
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
	epoch      int                   // of the peer's newest description: the page's own are of the same
	offer      *protocol.Description // waits for the name
	mine       []protocol.Candidate  // wait for the page's first description to go
	gone       bool                  // it went
	theirs     []protocol.Candidate  // wait for the page to be able to take them
	open       bool                  // it is
}

// pageEvent is what the events of a page may carry. Its username is not read: who
// it is, is known.
type pageEvent struct {
	Target    label                 `json:"target"`
	Call      protocol.CallID       `json:"call"`
	Offer     *protocol.Description `json:"offer"`
	Answer    *protocol.Description `json:"answer"`
	Candidate *protocol.Candidate   `json:"candidate"`
}

// label is a name or an id as a page writes it: a string, or a number where a page
// numbers its users.
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

// event acts on an event of the page, unless it came too soon. What it returns the page has
// been told, too.
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

// fail tells the page what went wrong, and returns that.
func (p *page) fail(refused *protocol.Error, target string) *protocol.Error {
	e := *refused
	e.Ref = "" // of a message that the page knows nothing of
	p.emit("error", struct {
		protocol.Error
		Target string `json:"target,omitempty"`
	}{e, target})
	return &e
}

// unnamed stands for a call's id where a message is only checked: what waits here for its
// call must not turn out bad when that has begun.
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
	case p.isRung(): // the two rings cross, and the hub merges them
	case c != nil && p.means(c, e.Target) && (!c.accepted || c.connection == "" || c.connection == connectionOf(e.Offer.SDP)):
		if refused := p.say(&protocol.Offer{Call: c.id, Epoch: c.epoch, Description: *e.Offer}); refused != nil {
			return refused
		}
		c.describe(e.Offer.SDP)
		c.open = false
		return nil
	case c != nil:
		// Such a page does not say that a call is over: it closes its peer connection
		// and makes an offer with another one.
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
		return nil // the end of candidates, from pages that do not look
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
	case c.gone:
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
func (p *page) means(c *pageCall, label label) bool {
	target := string(label)
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
		p.tell(&protocol.Candidates{Call: c.id, Epoch: c.epoch, Candidates: c.mine})
		c.mine = nil
	}
}

// tell says what follows from an event that was answered already, and tells the page
// should that be refused.
func (p *page) tell(m protocol.Message) {
	if refused := p.say(m); refused != nil {
		p.failed(refused)
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
	p.tell(&protocol.Media{Call: c.id, Connection: protocol.Connected, Audio: true, Video: c.video})
}

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

// merged answers our ring of somebody who was ringing us: we are in their call, and the
// offer of the page is void. What it answers is theirs, which came or is about to.
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

// rejoined puts the page into a call that it has not asked for. The peer of an active call
// has rung again, and this is the call that goes on: the page answers the offer that
// follows. A page that has lost its session has told its person that the call is over,
// and hangs up.
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

// failed tells the page that the hub refused what was no event of the page.
func (p *page) failed(m *protocol.Error) {
	target := ""
	if c := p.whose(m.Call); c != nil {
		target = c.name()
		if m.Code == protocol.CodeUnknownCall {
			p.leaveIf(c)
		}
	}
	_ = p.fail(m, target)
}

// lost says that the session is not the one before, whose call and ring have ended.
func (p *page) lost() {
	over := []*pageCall{p.call, p.dial}
	p.dial, p.call, p.past, p.next, p.early = nil, nil, nil, "", nil
	for _, c := range over {
		if c != nil {
			p.emitEnded(c, protocol.ReasonLost, "", 0)
		}
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
