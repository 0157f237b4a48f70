package call

import (
	"cmp"
	"slices"
	"time"

	"github.com/visavis/visavis/protocol"
)

// from is who an input must come from to be heard.
type from int

const (
	clock      from = iota // a timer, or another thing that is nobody's act
	theCaller              // the caller's session
	anyCallee              // any session of the callee
	theParties             // the chosen session of either party
	anyone                 // any session of either party
)

// rule is what becomes of one kind of input in one state. Without a step the
// input is refused as wrong_state, from whomever it comes.
type rule struct {
	from from
	step func(*Call, Input, time.Time) []Output
}

// table decides every input in every state. What is not here is refused.
var table = map[State][kinds]rule{
	Ringing: {
		Confirm:            {anyCallee, (*Call).confirm},
		Accept:             {anyCallee, (*Call).accept},
		Merge:              {anyCallee, (*Call).accept},
		Decline:            {anyCallee, (*Call).decline},
		Hangup:             {anyone, (*Call).giveUp},
		Offer:              {theCaller, (*Call).keepOffer},
		Answer:             {anyCallee, (*Call).answerEarly},
		Candidates:         {anyone, (*Call).keepCandidates},
		Media:              {theCaller, (*Call).keepMedia},
		Rejoin:             {anyone, (*Call).rejoinRinging},
		SessionOpened:      {anyCallee, (*Call).ringToo},
		PageClosed:         {theCaller, (*Call).callerLost},
		ConnectionLost:     {theCaller, (*Call).callerLost},
		ConnectionBack:     {theCaller, (*Call).callerBack},
		SessionEnded:       {theCaller, (*Call).giveUp},
		PageHidden:         {anyCallee, (*Call).pushAgain},
		PushTaken:          {clock, (*Call).pushTaken},
		PushTimeout:        {clock, (*Call).pushAgain},
		RingTimeout:        {clock, endAs(protocol.ReasonUnanswered)},
		UnreachableTimeout: {clock, endAs(protocol.ReasonUnreachable)},
		CallerTimeout:      {clock, endAs(protocol.ReasonCanceled)},
	},
	Active: {
		Confirm:            {anyCallee, (*Call).tellAccepted},
		Accept:             {anyCallee, (*Call).tellAccepted},
		Decline:            {anyCallee, (*Call).tellAccepted},
		Hangup:             {theParties, (*Call).hangUp},
		Offer:              {theParties, (*Call).passDescription},
		Answer:             {theParties, (*Call).passDescription},
		Candidates:         {theParties, (*Call).passCandidates},
		Media:              {theParties, (*Call).passMedia},
		Rejoin:             {anyone, (*Call).rejoin},
		PageClosed:         {theParties, (*Call).partyLost},
		ConnectionLost:     {theParties, (*Call).partyLost},
		ConnectionBack:     {theParties, (*Call).partyBack},
		SessionEnded:       {theParties, (*Call).hangUp},
		ConnectTimeout:     {clock, endAs(protocol.ReasonFailed)},
		MediaTimeout:       {clock, endAs(protocol.ReasonLost)},
		CredentialsTimeout: {clock, (*Call).renew},
		CallerLostTimeout:  {clock, endAs(protocol.ReasonLost)},
		CalleeLostTimeout:  {clock, endAs(protocol.ReasonLost)},
	},
	Ended: {
		Confirm:    {anyone, (*Call).tellEnded},
		Accept:     {anyone, (*Call).tellEnded},
		Decline:    {anyone, (*Call).tellEnded},
		Hangup:     {anyone, (*Call).tellEnded},
		Offer:      {anyone, (*Call).tellEnded},
		Answer:     {anyone, (*Call).tellEnded},
		Candidates: {anyone, nothing},
		Media:      {anyone, nothing},
		Rejoin:     {anyone, (*Call).tellEnded},
	},
}

// Step is the only way a call changes: it takes one input and says what is to be
// done about it. A message that the table does not allow changes nothing and is
// answered by an error; news of a session or a timer that came too late is nothing.
func (c *Call) Step(in Input, now time.Time) []Output {
	r := table[c.state][in.Kind]
	allowed := r.step != nil && c.heard(r.from, in)
	switch {
	case allowed:
	case in.Message == nil:
		return nil
	case !c.heard(anyone, in):
		return c.refuse(in, protocol.CodeUnknownCall, "there is no such call")
	case r.step == nil:
		return c.refuse(in, protocol.CodeWrongState, "the call is not in a state for that")
	default:
		return c.refuseOther(in)
	}
	return r.step(c, in, now)
}

// heard reports whether an input comes from whom a rule wants it.
func (c *Call) heard(f from, in Input) bool {
	isCaller := in.User == c.caller.user.ID && in.Session == c.caller.session
	ofCallee := in.User == c.callee.user.ID
	switch f {
	case clock:
		return in.User == ""
	case theCaller:
		return isCaller
	case anyCallee:
		return ofCallee
	case theParties:
		return isCaller || ofCallee && in.Session == c.callee.session
	case anyone:
		return ofCallee || in.User == c.caller.user.ID
	}
	return false
}

// refuseOther answers a party that is right in the call, but not to do that.
func (c *Call) refuseOther(in Input) []Output {
	chosen := c.mine(in).session
	if chosen != "" && chosen != in.Session {
		return c.refuse(in, protocol.CodeWrongSession, "another session of yours is in this call")
	}
	return c.refuse(in, protocol.CodeWrongState, "that is for the other party, or not yet")
}

func (c *Call) refuse(in Input, code protocol.Code, sentence string) []Output {
	return []Output{Send{in.Session, &protocol.Error{Call: c.ID, Code: code, Message: sentence}}}
}

// mine and other are the sides of the party that an input comes from, and of the other.
func (c *Call) mine(in Input) *side {
	if in.User == c.caller.user.ID {
		return &c.caller
	}
	return &c.callee
}

func (c *Call) other(in Input) *side {
	if in.User == c.caller.user.ID {
		return &c.callee
	}
	return &c.caller
}

func nothing(*Call, Input, time.Time) []Output { return nil }

// While it rings.

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
	c.state, c.acceptedAt, c.callee.session = Active, now, in.Session
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
		SendUser{User: in.User, Except: in.Session, Message: &protocol.Elsewhere{Call: c.ID, Act: protocol.ActAccepted}},
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
	out := c.end(protocol.ReasonDeclined, in.User, now)
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
	case in.User == c.callee.user.ID:
		return c.decline(in, now)
	case in.Session != c.caller.session:
		return c.refuseOther(in)
	}
	return c.end(protocol.ReasonCanceled, in.User, now)
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
	ofCaller := in.User == c.caller.user.ID
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
	if in.User != c.caller.user.ID {
		return nil
	}
	c.caller.session, c.caller.away = in.Session, false
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

// While it is active.

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
	return c.end(protocol.ReasonHungup, in.User, now)
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
	return c.other(in).tell(in.Message)
}

func (c *Call) passCandidates(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Candidates)
	if !c.mine(in).count(m) {
		return c.refuse(in, protocol.CodeBadMessage, "more than 100 candidates for one description")
	}
	return c.other(in).tell(m)
}

// tell sends a party what the other one describes, or keeps it until they are back.
func (s *side) tell(m protocol.Message) []Output {
	if s.former {
		s.missed = append(s.missed, m)
	}
	return s.say(m)
}

// say sends a party something, unless they have not come back since the server started.
func (s *side) say(m protocol.Message) []Output {
	if s.former {
		return nil
	}
	return []Output{Send{s.session, m}}
}

func (c *Call) passMedia(in Input, _ time.Time) []Output {
	m, _ := in.Message.(*protocol.Media)
	c.mine(in).media = *m
	out := c.other(in).say(m)
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
	out := append(c.other(in).say(&media), SetTimer{c.lostTimeout(in), protocol.Duration(grace)})
	return append(out, c.watchMedia()...)
}

func (c *Call) partyBack(in Input, _ time.Time) []Output {
	s := c.mine(in)
	s.away = false
	media := s.media
	out := append([]Output{StopTimer{c.lostTimeout(in)}}, c.refresh(s)...)
	out = append(out, c.other(in).say(&media)...)
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
		out = append(out, s.say(&protocol.Elsewhere{Call: c.ID, Act: protocol.ActAccepted})...)
	}
	s.session, s.away = in.Session, false
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

func (c *Call) lostTimeout(in Input) Kind {
	if in.User == c.caller.user.ID {
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

// At the end.

func endAs(reason protocol.EndReason) func(*Call, Input, time.Time) []Output {
	return func(c *Call, _ Input, now time.Time) []Output { return c.end(reason, "", now) }
}

// end is the only way into Ended.
func (c *Call) end(reason protocol.EndReason, by protocol.UserID, now time.Time) []Output {
	wasActive := c.state == Active
	c.state, c.reason, c.by, c.endedAt = Ended, reason, by, now
	c.forgetHeld()
	// Who hears of the end finds it among their calls: the record is first.
	out := []Output{Finish{c.record()}}
	for k := PushTimeout; k <= CalleeLostTimeout; k++ {
		out = append(out, StopTimer{k})
	}
	out = append(out, c.caller.say(c.endedMessage())...)
	switch {
	case wasActive:
		out = append(out, c.callee.say(c.endedMessage())...)
	case c.rang:
		out = append(out, SendUser{User: c.callee.user.ID, Message: c.endedMessage()}, c.push(now))
	}
	return out
}

func (c *Call) tellEnded(in Input, _ time.Time) []Output {
	return []Output{Send{in.Session, c.endedMessage()}}
}

func (c *Call) endedMessage() *protocol.Ended {
	reason := c.reason
	if reason == protocol.ReasonBlocked {
		reason = protocol.ReasonUnreachable // semantics 6: nobody learns that they are blocked
	}
	return &protocol.Ended{
		Call: c.ID, Reason: reason, By: c.by, Detail: c.detail(), Next: c.next,
		DurationMs: c.record().Duration().Milliseconds(),
	}
}

// detail is why the call failed: of what the two parties say the one that tells more.
func (c *Call) detail() protocol.Detail {
	if c.reason != protocol.ReasonFailed {
		return ""
	}
	caller, callee := c.caller.media.Detail, c.callee.media.Detail
	for _, known := range []protocol.Detail{
		protocol.DetailDescription, protocol.DetailRelayFull, protocol.DetailRelayRefused,
		protocol.DetailRelayUnreachable, protocol.DetailNoAnswer, protocol.DetailNoPath,
	} {
		if caller == known || callee == known {
			return known
		}
	}
	return cmp.Or(caller, callee)
}

func (c *Call) record() Record {
	caller, callee := c.caller.user, c.callee.user
	caller.Presence, callee.Presence = "", ""
	return Record{
		Call: c.ID, Caller: caller, Callee: callee, Video: c.Video,
		RungAt: c.rungAt, AcceptedAt: c.acceptedAt, EndedAt: c.endedAt, Reason: c.reason, Detail: c.detail(),
	}
}
