package call

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// Router takes the messages of calls to sessions. None of its methods blocks.
type Router interface {
	// SendSession sends to one session. If it has ended, SendSession does nothing.
	SendSession(protocol.SessionID, protocol.Message)
	// SendUser sends to every session of a user other than except.
	SendUser(user protocol.UserID, except protocol.SessionID, m protocol.Message)
	// SetBusy tells the router whether a user is in a call.
	SetBusy(protocol.UserID, bool)
	// Shown returns the devices on which a user sees a page. A page counts if it is
	// connected and was last heard at or after since.
	Shown(user protocol.UserID, since time.Time) []string
}

// Relay carries media for the parties of calls. None of its methods blocks.
type Relay interface {
	// Permit tells the relay that a party has shown these addresses to the other party,
	// who may reach them over the relay from now on.
	Permit(call protocol.CallID, party protocol.UserID, addrs []netip.Addr)
	// RelayOnly tells the relay whether the parties may reach relayed addresses only. While
	// it is on, permissions have no effect.
	RelayOnly(call protocol.CallID, on bool)
	// EndCall closes the allocations of a call. It returns the number of bytes that the
	// relay has forwarded for the call.
	EndCall(call protocol.CallID) uint64
}

// Recorder keeps the records: the database of calls.
type Recorder interface {
	// Record writes the record of a call: without an end when the call is accepted, and
	// once when it has ended. It does not wait for the database. When it returns, the end
	// of an accepted call survives the death of the server. Only then are the parties told
	// of the end.
	Record(Record)
	// Lives reports whether the records prove that a call, accepted at the given time, has
	// not ended. It reports false for an unknown call. An error means that the records
	// cannot be read now. It may block until ctx is done.
	Lives(ctx context.Context, id protocol.CallID, accepted time.Time) (bool, error)
}

// Directory knows who may ring whom, and how.
type Directory interface {
	// Find returns the entry of the user whom a caller rings. It may block for a second or
	// two, but not after ctx is done. For a user whom this caller may not wake, it returns
	// the same entry, after the same delay, as for a user who does not exist.
	Find(ctx context.Context, caller, callee protocol.UserID) account.Entry
}

// Config configures a [Switchboard]. Router, Directory, Recorder, Secret and Log are
// required.
type Config struct {
	Node       string // the first part of call ids; "n1" by default
	Router     Router
	Directory  Directory
	Recorder   Recorder
	Relay      Relay                                                         // may be nil
	Pusher     Pusher                                                        // may be nil
	ICEServers func(user protocol.UserID, scope string) []protocol.ICEServer // none by default
	// RenewAfter is the age at which the ICEServers of an active call are sent again, because their credentials
	// expire; never by default.
	RenewAfter time.Duration
	Timings    protocol.Timings // [protocol.DefaultTimings] by default
	// RingsPerMinute is how often a user may ring; 5 by default.
	RingsPerMinute int
	// EarlyAnswers lets two browsers connect, over the relay only, while the call rings. The caller's ring must ask
	// for it.
	EarlyAnswers bool
	// Secret signs tickets and the keys of pushes. It must be the same on all nodes.
	Secret     []byte
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
}

func (c *Config) validate() error {
	if c.Router == nil || c.Directory == nil || c.Recorder == nil || c.Log == nil || len(c.Secret) == 0 {
		return errors.New("call: router, directory, recorder, log and secret are needed")
	}
	if c.Node == "" {
		c.Node = "n1"
	}
	if c.ICEServers == nil {
		c.ICEServers = func(protocol.UserID, string) []protocol.ICEServer { return nil }
	}
	if c.Timings.RingMs == 0 {
		c.Timings = protocol.DefaultTimings()
	}
	if c.RingsPerMinute == 0 {
		c.RingsPerMinute = 5
	}
	return nil
}

// live is a call of the switchboard, with its timers.
type live struct {
	*Call
	timers [kinds]*time.Timer
}

// Switchboard owns the calls of a node. Any goroutine may call its methods. HandleMessage
// of a rejoin may wait for the records, for a second or two. Close waits for the look-ups
// to end. No other method blocks.
type Switchboard struct {
	cfg     Config
	rules   rules
	metrics metrics

	// lookUps are the goroutines that look callees up. Their context is looking; cancel
	// makes them end soon.
	lookUps sync.WaitGroup
	looking context.Context //nolint:containedctx // the switchboard's life
	cancel  context.CancelFunc

	mu sync.Mutex // guards all below; nothing of the Config is called while it is held, apart from ICEServers
	// calls are the calls that have not ended, and for a while those that have. A late
	// message for an ended call is then answered as such.
	calls map[protocol.CallID]*live
	// inCall is the call of each user who is in one: since their ring, accept or rejoin.
	// ringing are the calls that ring each user, oldest first. A user who is only rung is
	// in no call, and not busy.
	inCall  map[protocol.UserID]protocol.CallID
	ringing map[protocol.UserID][]protocol.CallID
	limits  ringLimits
	// pending are outputs in the order of their steps. The goroutine that has set flushing
	// carries them out.
	pending  []Output
	flushing bool
	done     *sync.Cond // on mu: flushing has become false
	closed   bool
}

// New returns a switchboard without calls.
func New(cfg Config) (*Switchboard, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Switchboard{
		cfg:    cfg,
		calls:  map[protocol.CallID]*live{},
		inCall: map[protocol.UserID]protocol.CallID{}, ringing: map[protocol.UserID][]protocol.CallID{},
		limits: newRingLimits(cfg.RingsPerMinute),
	}
	s.looking, s.cancel = context.WithCancel(context.Background())
	s.rules = rules{
		timings: cfg.Timings, iceServers: cfg.ICEServers, renewAfter: cfg.RenewAfter, earlyAnswers: cfg.EarlyAnswers,
		seal: func(t ticket) string { return t.seal(cfg.Secret) },
		pushKey: func(id protocol.CallID, callee protocol.UserID) string {
			return pushKey(cfg.Secret, id, callee)
		},
	}
	s.done = sync.NewCond(&s.mu)
	s.metrics = newMetrics(cfg.Registerer, s)
	return s, nil
}

// kindOf returns the kind of input of a session's message, and the call that it names.
func kindOf(m protocol.Message) (Kind, protocol.CallID, bool) {
	switch m := m.(type) {
	case *protocol.Ringing:
		return Confirm, m.Call, true
	case *protocol.Accept:
		return Accept, m.Call, true
	case *protocol.Decline:
		return Decline, m.Call, true
	case *protocol.Hangup:
		return Hangup, m.Call, true
	case *protocol.Offer:
		return Offer, m.Call, true
	case *protocol.Answer:
		return Answer, m.Call, true
	case *protocol.Candidates:
		return Candidates, m.Call, true
	case *protocol.Media:
		return Media, m.Call, true
	}
	return 0, "", false
}

// HandleMessage acts on a message of a session. The error, if any, is for that session.
func (s *Switchboard) HandleMessage(from origin.Origin, m protocol.Message) *protocol.Error {
	switch m := m.(type) {
	case *protocol.Ring:
		return s.ring(from, m)
	case *protocol.Rejoin:
		return s.rejoin(from, m)
	}
	kind, id, ok := kindOf(m)
	if !ok {
		return protocol.Errorf(protocol.CodeUnknownType, "a client does not send "+m.Type())
	}
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil {
		e := protocol.Errorf(protocol.CodeUnknownCall, "there is no such call")
		e.Call = id
		return e
	}
	if kind == Accept {
		s.leaveOtherLocked(c, from.User.ID)
	}
	out := c.Step(Input{Kind: kind, Origin: from, Message: m}, time.Now())
	if refused := refusal(out, from.Session); refused != nil {
		return refused
	}
	s.applyLocked(c, out)
	return nil
}

// refusal returns the error of a step that refused a session's message, or nil. A refusal
// is the only output of its step.
func refusal(out []Output, session protocol.SessionID) *protocol.Error {
	if len(out) != 1 {
		return nil
	}
	send, _ := out[0].(Send)
	refused, _ := send.Message.(*protocol.Error)
	if send.Session != session {
		return nil
	}
	return refused
}

// leaveOtherLocked ends the call that a user is in if they are about to accept c.
func (s *Switchboard) leaveOtherLocked(c *live, user protocol.UserID) {
	other := s.calls[s.inCall[user]]
	if c.state != Ringing || !slices.Contains(s.ringing[user], c.ID) || other == nil {
		return
	}
	s.stepLocked(other, Input{Kind: Leave, Origin: originOf(user)})
}

// addLocked adds a new call and applies its first outputs.
func (s *Switchboard) addLocked(c *live, out []Output) {
	s.calls[c.ID] = c
	caller, _ := c.Parties()
	s.inCall[caller] = c.ID
	s.applyLocked(c, out)
	if c.state == Active {
		s.pending = append(s.pending, setBusy{caller, true})
	}
}

// acceptedLocked makes the callee of a call that was just accepted busy with it.
func (s *Switchboard) acceptedLocked(c *live) {
	caller, callee := c.Parties()
	s.stopRingingLocked(callee, c.ID)
	s.inCall[callee] = c.ID
	s.limits.answered(caller, callee)
	s.pending = append(s.pending, setBusy{callee, true})
}

func (s *Switchboard) stopRingingLocked(user protocol.UserID, id protocol.CallID) {
	left := slices.DeleteFunc(s.ringing[user], func(each protocol.CallID) bool { return each == id })
	if len(left) == 0 {
		delete(s.ringing, user)
		return
	}
	s.ringing[user] = left
}

// SessionOpened handles a new session. If its user is rung, the session rings, too.
func (s *Switchboard) SessionOpened(from origin.Origin) {
	s.sessionEvent(SessionOpened, from)
	s.busyAgain(from.User.ID)
}

// PageClosed handles a session whose page was closed or is being reloaded.
func (s *Switchboard) PageClosed(from origin.Origin) { s.sessionEvent(PageClosed, from) }

// SessionTakenOver handles a new session that replaces an old one of the same user. The
// calls of the old session go on in the new one.
func (s *Switchboard) SessionTakenOver(old protocol.SessionID, by origin.Origin) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	in := Input{Kind: Rejoin, Origin: by}
	for _, c := range s.callsOfLocked(by.User.ID) {
		if c.mine(in).session == old {
			s.stepLocked(c, in)
		}
	}
}

// callsOfLocked returns the call that a user is in, if any, and those that ring them.
func (s *Switchboard) callsOfLocked(user protocol.UserID) []*live {
	var calls []*live
	if c := s.calls[s.inCall[user]]; c != nil {
		calls = append(calls, c)
	}
	for _, id := range s.ringing[user] {
		calls = append(calls, s.calls[id])
	}
	return calls
}

// ConnectionLost handles a session that has lost its connection but can be resumed.
func (s *Switchboard) ConnectionLost(from origin.Origin) { s.sessionEvent(ConnectionLost, from) }

// ConnectionBack handles a session that was resumed.
func (s *Switchboard) ConnectionBack(from origin.Origin) { s.sessionEvent(ConnectionBack, from) }

// SessionEnded handles a session that has ended.
func (s *Switchboard) SessionEnded(from origin.Origin) { s.sessionEvent(SessionEnded, from) }

// SignedOut ends the calls of a user who has signed out everywhere.
func (s *Switchboard) SignedOut(user protocol.UserID) {
	s.sessionEvent(SignOut, originOf(user))
}

// PageHidden handles a page that the user sees no more. Calls that ring the user are pushed
// to its device.
func (s *Switchboard) PageHidden(from origin.Origin) { s.sessionEvent(PageHidden, from) }

func (s *Switchboard) sessionEvent(kind Kind, from origin.Origin) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.callsOfLocked(from.User.ID) {
		s.stepLocked(c, Input{Kind: kind, Origin: from})
	}
}

// Close ends the calls that ring, and refuses new ones. It leaves active calls as they are:
// their parties hold tickets for the next run of the server. It waits until the look-ups
// have ended and all records were handed over.
func (s *Switchboard) Close() {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.calls {
		s.stepLocked(c, Input{Kind: Restart})
	}
	s.mu.Unlock()
	s.drain() // no look-up begins after that
	s.cancel()
	s.lookUps.Wait()
	s.drain()
}

// drain carries out the pending outputs, and waits for a goroutine that already does. When
// it returns, their records were handed over.
func (s *Switchboard) drain() {
	s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.flushing {
		s.done.Wait()
	}
}

// setBusy is an output that the switchboard itself adds to those of a step.
type setBusy struct {
	user protocol.UserID
	busy bool
}

func (setBusy) output() {}

func (s *Switchboard) stepLocked(c *live, in Input) {
	s.applyLocked(c, c.Step(in, time.Now()))
}

// applyLocked carries out the outputs that concern the switchboard itself, under the same
// lock as the step. It leaves the others to flush.
func (s *Switchboard) applyLocked(c *live, out []Output) {
	var then []func() // after the other outputs of the step
	for _, o := range out {
		switch o := o.(type) {
		case SetTimer:
			s.setTimerLocked(c, o)
		case StopTimer:
			stop(&c.timers[o.Kind])
		case Keep:
			s.pending = append(s.pending, o)
			then = append(then, func() { s.acceptedLocked(c) })
		case Finish:
			s.pending = append(s.pending, o)
			then = append(then, func() { s.releaseLocked(c) })
			s.forgetLater(c.ID)
		case Drop:
			then = append(then, func() { s.releaseLocked(c) })
			delete(s.calls, c.ID)
		case GoOn:
			next := &live{Call: o.Call}
			then = append(then, func() { s.addLocked(next, o.Outputs) })
		default:
			s.pending = append(s.pending, o)
		}
	}
	for _, f := range then {
		f()
	}
}

// releaseLocked takes the parties out of an ended call.
func (s *Switchboard) releaseLocked(c *live) {
	caller, callee := c.Parties()
	s.stopRingingLocked(callee, c.ID)
	for _, user := range []protocol.UserID{caller, callee} {
		if s.inCall[user] == c.ID {
			delete(s.inCall, user)
			if c.rang || !c.acceptedAt.IsZero() { // else nobody was shown as busy
				s.pending = append(s.pending, setBusy{user, false})
			}
		}
	}
}

func (s *Switchboard) setTimerLocked(c *live, o SetTimer) {
	stop(&c.timers[o.Kind])
	var timer *time.Timer
	timer = time.AfterFunc(o.After, func() {
		defer panics.Recover(s.cfg.Log, inTimer)
		defer s.flush()
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.timers[o.Kind] == timer { // else it was stopped while it fired
			c.timers[o.Kind] = nil
			stepped := panics.Contain(s.cfg.Log, inTimer, func() { s.stepLocked(c, Input{Kind: o.Kind}) })
			if !stepped { // no other timer would end it
				s.stepLocked(c, Input{Kind: Fault})
			}
		}
	})
	c.timers[o.Kind] = timer
}

func stop(t **time.Timer) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
}

// forgetLater removes an ended call after the resume window of a session. Until then a
// session that is resumed may still ask for it.
func (s *Switchboard) forgetLater(id protocol.CallID) {
	time.AfterFunc(protocol.Duration(s.cfg.Timings.ResumeMs), func() {
		panics.Contain(s.cfg.Log, inTimer, func() { s.forget(id) })
	})
}

func (s *Switchboard) forget(id protocol.CallID) {
	s.mu.Lock()
	delete(s.calls, id)
	s.mu.Unlock()
}

// fault ends a call whose look-up has panicked.
func (s *Switchboard) fault(id protocol.CallID) {
	defer s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		s.stepLocked(c, Input{Kind: Fault})
	}
}

// Where a panic of this package is counted.
const (
	inTimer  = "a call's timer"
	inOutput = "an output of a call"
	inLookUp = "a callee's look-up"
)

// flush carries out the pending outputs in order and without the lock. If another goroutine
// does so already, flush leaves them to it.
func (s *Switchboard) flush() {
	s.mu.Lock()
	if s.flushing {
		s.mu.Unlock()
		return
	}
	s.flushing = true
	for len(s.pending) > 0 {
		batch := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, o := range batch {
			s.perform(o)
		}
		s.mu.Lock()
	}
	s.flushing = false
	s.done.Broadcast()
	s.mu.Unlock()
}

func (s *Switchboard) perform(o Output) {
	defer panics.Recover(s.cfg.Log, inOutput) // one output must not stop the others
	switch o := o.(type) {
	case Send:
		s.cfg.Router.SendSession(o.Session, o.Message)
	case SendUser:
		s.cfg.Router.SendUser(o.User, o.Except, o.Message)
	case Push:
		if s.cfg.Pusher != nil {
			s.cfg.Pusher.Push(o.User, o.Message, s.cfg.Router.Shown(o.User, o.HeardSince)...)
		}
	case setBusy:
		s.cfg.Router.SetBusy(o.user, o.busy)
	case Permit:
		if s.cfg.Relay != nil {
			s.cfg.Relay.Permit(o.Call, o.Party, o.Addresses)
		}
	case RelayOnly:
		if s.cfg.Relay != nil {
			s.cfg.Relay.RelayOnly(o.Call, o.On)
		}
	case LookUp:
		s.lookUps.Go(func() {
			answered := panics.Contain(s.cfg.Log, inLookUp, func() { s.found(o.Call, s.cfg.Directory.Find(s.looking, o.Caller, o.Callee)) })
			if !answered {
				s.fault(o.Call)
			}
		})
	case Keep:
		s.cfg.Recorder.Record(o.Record)
	case Finish:
		if s.cfg.Relay != nil {
			o.Record.RelayedBytes = s.cfg.Relay.EndCall(o.Record.Call)
		}
		s.metrics.ended.WithLabelValues(string(o.Record.Reason)).Inc()
		s.cfg.Log.Info("call ended", "call", o.Record.Call, "reason", o.Record.Reason, "detail", o.Record.Detail, "duration", o.Record.Duration())
		s.cfg.Recorder.Record(o.Record)
	}
}

// count returns how many calls ring, or are looked up, and how many are active.
func (s *Switchboard) count() (ringing, active int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		switch c.state {
		case Looking, Ringing:
			ringing++
		case Active:
			active++
		}
	}
	return ringing, active
}
