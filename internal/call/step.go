package call

import (
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
	Looking: {
		Rejoin:         {anyone, (*Call).reload},
		PageClosed:     {theCaller, (*Call).callerLost},
		ConnectionLost: {theCaller, (*Call).callerLost},
		ConnectionBack: {theCaller, (*Call).callerBack},
		SessionEnded:   {theCaller, (*Call).abandon},
		Leave:          {anyone, (*Call).abandon},
		Block:          {anyone, (*Call).abandon},
		SignOut:        {anyone, (*Call).abandon},
		Found:          {clock, (*Call).found},
		Restart:        {clock, dropAs(protocol.CodeRestarting, "the server is about to restart")},
		Fault:          {clock, dropAs(protocol.CodeInternal, "the server has made a mistake")},
		CallerTimeout:  {clock, (*Call).abandon},
	},
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
		Leave:              {anyone, (*Call).leave},
		Block:              {anyone, (*Call).block},
		SignOut:            {anyone, (*Call).signOut},
		PushTaken:          {clock, (*Call).pushTaken},
		Restart:            {clock, endAs(protocol.ReasonRestarted)},
		Limit:              {clock, endAs(protocol.ReasonLimit)},
		Terminate:          {clock, endAs(protocol.ReasonTerminated)},
		Fault:              {clock, endAs(protocol.ReasonFailed)},
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
		Leave:              {anyone, (*Call).leave},
		Migrate:            {anyone, (*Call).migrate},
		Block:              {anyone, (*Call).block},
		SignOut:            {anyone, (*Call).signOut},
		Restart:            {clock, (*Call).outlive},
		Limit:              {clock, endAs(protocol.ReasonLimit)},
		Terminate:          {clock, endAs(protocol.ReasonTerminated)},
		Fault:              {clock, endAs(protocol.ReasonFailed)},
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
	out := r.step(c, in, now)
	c.noteAddress(in)
	return c.guard(out)
}

// noteAddress takes note of where a party signals from.
func (c *Call) noteAddress(in Input) {
	if s := c.mine(in); in.Address.IsValid() && s.user.ID == in.User.ID && s.session == in.Session {
		s.address = in.Address
	}
}

// heard reports whether an input comes from whom a rule wants it.
func (c *Call) heard(f from, in Input) bool {
	isCaller := in.User.ID == c.caller.user.ID && in.Session == c.caller.session
	ofCallee := in.User.ID == c.callee.user.ID
	switch f {
	case clock:
		return in.User.ID == ""
	case theCaller:
		return isCaller
	case anyCallee:
		return ofCallee
	case theParties:
		return isCaller || ofCallee && in.Session == c.callee.session
	case anyone:
		return ofCallee || in.User.ID == c.caller.user.ID
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
	if in.User.ID == c.caller.user.ID {
		return &c.caller
	}
	return &c.callee
}

func (c *Call) other(in Input) *side {
	if in.User.ID == c.caller.user.ID {
		return &c.callee
	}
	return &c.caller
}

func nothing(*Call, Input, time.Time) []Output { return nil }
