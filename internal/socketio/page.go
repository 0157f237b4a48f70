package socketio

import (
	"cmp"
	"slices"

	"github.com/visavis/visavis/protocol"
)

// page translates between the events of a page that knows no calls and the messages of a
// session. The page's offer is a ring with a description; its answer is an accept.
//
//	from the page   to the hub
//	offer           ring; then offer, once calling has named the call
//	answer          accept, answer, media
//	candidate       candidate, as soon as the other party can have it
//
//	from the hub    to the page
//	ring            ring; the hub gets ringing{early}, so that the offer may come
//	candidate       candidate events, as soon as the page can take them
//
// It has no lock: its session lets in one event or message at a time.
type page struct {
	emit func(event string, payload any)        // to the page
	say  func(protocol.Message) *protocol.Error // to the hub; if the hub refuses it, nothing was done
	find func(target string) protocol.UserID    // whom a target means

	me      protocol.User
	timings protocol.Timings
	users   []protocol.User // who else is here
	rings   int             // of the page so far

	dial *pageCall       // the page's ring, while the hub has taken it and not answered it
	call *pageCall       // the call that the page is in, or by which it is rung
	past *pageCall       // the call before; what comes late is about it
	next protocol.CallID // the call that takes the place of the past one

	// early are candidates for a target to which the page has sent no offer yet: it may begin
	// to gather before it sends its offer.
	early []earlyCandidate
}

type earlyCandidate struct {
	target    string
	candidate protocol.Candidate
}

// pageCall is what has to be known of a call so that the page need not know it.
type pageCall struct {
	id     protocol.CallID // empty until calling has named the call
	ref    string          // of the page's ring
	peer   protocol.User
	target string // what the page called the peer in its ring

	caller, accepted, video bool
	canceled                bool // the page hung up before the call was named
	over                    bool // the page was told ended

	// peerConnection is the session id in the page's descriptions. Each peer connection of the
	// page has one of its own.
	peerConnection string
	epoch          int                   // of the peer's newest description; the page's own have the same
	offer          *protocol.Description // of the page; waits until the call is named
	mine           []protocol.Candidate  // of the page; wait until its first description was sent
	sent           bool                  // the page's first description was sent
	theirs         []protocol.Candidate  // of the peer; wait until the page can take them
	open           bool                  // the page can take candidates
}

// callEvent is what the page is told of a call, in the words of its own events: who the peer
// is, and who the page is itself.
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

// name is how the page calls the peer.
func (c *pageCall) name() string { return cmp.Or(c.peer.Name, c.target) }

// current returns the page's call if it has that id, or nil.
func (p *page) current(id protocol.CallID) *pageCall {
	if p.call != nil && p.call.id == id {
		return p.call
	}
	return nil
}

// whose returns the call of an id that the page is or was in, or nil.
func (p *page) whose(id protocol.CallID) *pageCall {
	for _, c := range []*pageCall{p.call, p.past} {
		if c != nil && c.id == id {
			return c
		}
	}
	return nil
}

// isRung reports whether the page is rung and has not accepted.
func (p *page) isRung() bool { return p.call != nil && !p.call.caller && !p.call.accepted }

// means reports whether a page that writes label as its target means the peer of a call.
func (p *page) means(c *pageCall, label label) bool {
	target := string(label)
	return target == "" || target == c.target || target == c.peer.Name || target == string(c.peer.ID) ||
		c.peer.ID != "" && p.find(target) == c.peer.ID
}

// leave makes the page's call the past one.
func (p *page) leave() { p.past, p.call = p.call, nil }

func (p *page) leaveIf(c *pageCall) {
	if c != nil && c == p.call {
		p.leave()
	}
}

// describe takes note of a description of the page.
func (c *pageCall) describe(sdp string) {
	c.peerConnection = peerConnectionOf(sdp)
	c.video = hasVideo(sdp)
}

// sendMine sends the candidates that waited until the page's first description had gone.
func (p *page) sendMine(c *pageCall) {
	c.sent = true
	if len(c.mine) > 0 {
		p.tell(&protocol.Candidates{Call: c.id, Epoch: c.epoch, Candidates: c.mine})
		c.mine = nil
	}
}

// openFor passes on candidates to a page that now has both descriptions.
func (p *page) openFor(c *pageCall) {
	c.open = true
	for _, candidate := range c.theirs {
		p.emitCandidate(c, candidate)
	}
	c.theirs = nil
	// Such a page cannot say how its media stands, and a call without word of it ends as failed.
	p.tell(&protocol.Media{Call: c.id, Connection: protocol.Connected, Audio: true, Video: c.video})
}

func (p *page) emitCandidate(c *pageCall, candidate protocol.Candidate) {
	if candidate.Candidate == "" {
		return // addIceCandidate of older browsers throws on it
	}
	e := p.about(c)
	e.Candidate = &candidate
	p.emit("candidate", e)
}

// keepTheirs drops the peer's candidates that do not belong to the peer's newest description.
func (c *pageCall) keepTheirs(sdp string) {
	c.theirs = slices.DeleteFunc(c.theirs, func(t protocol.Candidate) bool { return !belongs(t, sdp) })
}

// tell sends the hub a message that follows from an event which was answered already. If the
// hub refuses it, the page is told.
func (p *page) tell(m protocol.Message) {
	if refused := p.say(m); refused != nil {
		p.failed(refused)
	}
}

// failed tells the page that the hub refused a message for which no event of the page asked.
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

// fail tells the page what went wrong, and returns that error without its ref.
func (p *page) fail(refused *protocol.Error, target string) *protocol.Error {
	e := *refused
	e.Ref = "" // of a message that the page knows nothing of
	p.emit("error", struct {
		protocol.Error
		Target string `json:"target,omitempty"`
	}{e, target})
	return &e
}
