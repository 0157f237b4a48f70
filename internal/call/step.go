package call

import (
	"time"

	"github.com/visavis/visavis/protocol"
)

// sender says whose input a rule accepts.
type sender int

const (
	nobody     sender = iota // a timer, or another input that is nobody's act
	theCaller                // the caller's session
	anyCallee                // any session of the callee
	theParties               // the chosen session of either party
	anyone                   // any session of either party
)

// rule says how a call in one state handles one kind of input. If step is nil, a message is
// refused as wrong_state and any other input is ignored.
type rule struct {
	sender sender
	step   func(*Call, Input, time.Time) []Output
}

// table has the rule for each kind of input in each state.
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
		Found:          {nobody, (*Call).found},
		Restart:        {nobody, dropAs(protocol.CodeRestarting, "the server is about to restart")},
		Fault:          {nobody, dropAs(protocol.CodeInternal, "the server has made a mistake")},
		CallerTimeout:  {nobody, (*Call).abandon},
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
		PushTaken:          {nobody, (*Call).pushTaken},
		Restart:            {nobody, endAs(protocol.ReasonRestarted)},
		Limit:              {nobody, endAs(protocol.ReasonLimit)},
		Terminate:          {nobody, endAs(protocol.ReasonTerminated)},
		Fault:              {nobody, endAs(protocol.ReasonFailed)},
		PushTimeout:        {nobody, (*Call).pushAgain},
		RingTimeout:        {nobody, endAs(protocol.ReasonUnanswered)},
		UnreachableTimeout: {nobody, endAs(protocol.ReasonUnreachable)},
		CallerTimeout:      {nobody, endAs(protocol.ReasonCanceled)},
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
		Restart:            {nobody, (*Call).outlive},
		Limit:              {nobody, endAs(protocol.ReasonLimit)},
		Terminate:          {nobody, endAs(protocol.ReasonTerminated)},
		Fault:              {nobody, endAs(protocol.ReasonFailed)},
		ConnectTimeout:     {nobody, endAs(protocol.ReasonFailed)},
		MediaTimeout:       {nobody, endAs(protocol.ReasonLost)},
		CredentialsTimeout: {nobody, (*Call).renew},
		CallerLostTimeout:  {nobody, endAs(protocol.ReasonLost)},
		CalleeLostTimeout:  {nobody, endAs(protocol.ReasonLost)},
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

// Step applies one input and returns what must be done. It is the only method that changes
// a call. If the table does not allow a message, nothing changes and the output is an
// error for its session. Any other input that the table does not allow is ignored: it came
// too late.
func (c *Call) Step(in Input, now time.Time) []Output {
	r := table[c.state][in.Kind]
	allowed := r.step != nil && c.isFrom(r.sender, in)
	switch {
	case allowed:
	case in.Message == nil:
		return nil
	case !c.isFrom(anyone, in):
		return c.refuse(in, protocol.CodeUnknownCall, "there is no such call")
	case r.step == nil:
		return c.refuse(in, protocol.CodeWrongState, "the call is not in a state for that")
	default:
		return c.refuseOther(in)
	}
	out := r.step(c, in, now)
	c.recordAddress(in)
	return c.filterAddresses(out)
}

// recordAddress records the client address of a party's session.
func (c *Call) recordAddress(in Input) {
	if s := c.mine(in); in.Address.IsValid() && s.user.ID == in.User.ID && s.session == in.Session {
		s.address = in.Address
	}
}

// isFrom reports whether an input comes from such a sender.
func (c *Call) isFrom(who sender, in Input) bool {
	isCaller := in.User.ID == c.caller.user.ID && in.Session == c.caller.session
	ofCallee := in.User.ID == c.callee.user.ID
	switch who {
	case nobody:
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

// refuseOther refuses a message of a party that must come from the other party, or from
// another session of the same one.
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

// mine returns the side of the party that an input comes from.
func (c *Call) mine(in Input) *side {
	if in.User.ID == c.caller.user.ID {
		return &c.caller
	}
	return &c.callee
}

// other returns the side of the other party.
func (c *Call) other(in Input) *side {
	if in.User.ID == c.caller.user.ID {
		return &c.callee
	}
	return &c.caller
}

func nothing(*Call, Input, time.Time) []Output { return nil }
