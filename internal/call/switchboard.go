package call

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/visavis/visavis/protocol"
)

// Router takes the messages of calls to sessions. None of its methods blocks.
type Router interface {
	// SendSession sends to one session; one that is gone is fine.
	SendSession(protocol.SessionID, protocol.Message)
	// SendUser sends to every session of a user but except.
	SendUser(user protocol.UserID, except protocol.SessionID, m protocol.Message)
	// User is a user who has a session, and whether they have one.
	User(protocol.UserID) (protocol.User, bool)
	// SetBusy says whether a user is in a call.
	SetBusy(protocol.UserID, bool)
}

// Recorder keeps the ended calls. Record never blocks.
type Recorder interface {
	Record(Record)
}

// Config is what a [Switchboard] is made of.
type Config struct {
	Node       string // the first part of call ids; "n1" by default
	Router     Router
	Recorder   Recorder
	ICEServers func(user protocol.UserID, scope string) []protocol.ICEServer // none by default
	Timings    protocol.Timings                                              // [protocol.DefaultTimings] by default
	// RingsPerMinute is how often a user may ring; 5 by default.
	RingsPerMinute int
	Log            *slog.Logger
	Registerer     prometheus.Registerer // may be nil
}

func (c *Config) validate() error {
	if c.Router == nil || c.Recorder == nil || c.Log == nil {
		return fmt.Errorf("call: router, recorder and log are needed")
	}
	if c.Node == "" {
		c.Node = "n1"
	}
	if c.ICEServers == nil {
		c.ICEServers = func(protocol.UserID, string) []protocol.ICEServer { return nil }
	}
	if c.Timings == (protocol.Timings{}) {
		c.Timings = protocol.DefaultTimings()
	}
	if c.RingsPerMinute == 0 {
		c.RingsPerMinute = 5
	}
	return nil
}

// live is a call that the switchboard knows, with its timers.
type live struct {
	*Call
	timers [kinds]*time.Timer
}

// Switchboard owns the live calls of a node. Its methods may be called by any
// goroutine and do not block.
type Switchboard struct {
	cfg     Config
	metrics metrics

	mu sync.Mutex // guards all below; nothing of ours is called while it is held
	// calls are those that live and, for a while, those that have ended, so
	// that a late message gets the same answer.
	calls map[protocol.CallID]*live
	// inCall is the call of each user who is in one.
	inCall map[protocol.UserID]protocol.CallID
	// rings limits how often each user rings.
	rings map[protocol.UserID]*rate.Limiter
	// pending are outputs in the order of the steps that made them. One
	// goroutine at a time does them, the one that set doing.
	pending []Output
	doing   bool
	done    *sync.Cond // on mu: nobody is at it any more
	closed  bool
}

// New is a switchboard without calls.
func New(cfg Config) (*Switchboard, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Switchboard{
		cfg:    cfg,
		calls:  map[protocol.CallID]*live{},
		inCall: map[protocol.UserID]protocol.CallID{},
		rings:  map[protocol.UserID]*rate.Limiter{},
	}
	s.done = sync.NewCond(&s.mu)
	s.metrics = newMetrics(cfg.Registerer, s)
	return s, nil
}

// kindOf is the input that a message of a session is.
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

// HandleMessage takes a message that a session sent. The error, if any, is for
// that session.
func (s *Switchboard) HandleMessage(session protocol.SessionID, from protocol.User, m protocol.Message) *protocol.Error {
	if ring, ok := m.(*protocol.Ring); ok {
		return s.ring(session, from, ring)
	}
	kind, id, ok := kindOf(m)
	if !ok {
		return protocol.Errorf(protocol.CodeUnknownType, "a client does not send "+m.Type())
	}
	defer s.do()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[id]
	if c == nil {
		e := protocol.Errorf(protocol.CodeUnknownCall, "there is no such call")
		e.Call = id
		return e
	}
	s.stepLocked(c, Input{Kind: kind, User: from.ID, Session: session, Message: m})
	return nil
}

// ring begins a call, or repeats the answer for one that this very message began.
func (s *Switchboard) ring(session protocol.SessionID, from protocol.User, m *protocol.Ring) *protocol.Error {
	fail := func(code protocol.Code, sentence string) *protocol.Error {
		e := protocol.Errorf(code, sentence)
		e.Ref = m.Ref
		return e
	}
	if m.Call != "" {
		return fail(protocol.CodeBadMessage, "a client does not choose the call's id")
	}
	if m.To == from.ID {
		return fail(protocol.CodeSelf, "you cannot ring yourself")
	}
	callee, here := s.cfg.Router.User(m.To)
	if !here {
		callee = protocol.User{ID: m.To, Presence: protocol.Offline}
	}
	now := time.Now()

	defer s.do()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fail(protocol.CodeRestarting, "the server is about to restart")
	}
	if c := s.calls[s.inCall[from.ID]]; c != nil {
		if m.Ref != "" && c.caller.session == session && c.ref == m.Ref {
			s.pending = append(s.pending, Send{session, c.callingMessage(now)})
			return nil
		}
		return fail(protocol.CodeInCall, "you are in a call already")
	}
	if !s.mayRingLocked(from.ID, now) {
		return fail(protocol.CodeRateLimited, "you ring too often; wait a minute")
	}
	var refused protocol.EndReason
	switch {
	case !here:
		refused = protocol.ReasonUnreachable
	case s.inCall[m.To] != "":
		refused = protocol.ReasonBusy
	}
	c, out := begin(dial{
		ID: protocol.NewCallID(s.cfg.Node), Caller: from, Callee: callee, Session: session,
		Ref: m.Ref, Video: m.Video, Refused: refused,
		ICEServers: s.cfg.ICEServers, Timings: s.cfg.Timings,
	}, now)
	l := &live{Call: c}
	s.calls[c.ID] = l
	if refused == "" {
		s.inCall[from.ID], s.inCall[m.To] = c.ID, c.ID
		s.pending = append(s.pending, setBusy{from.ID, true}, setBusy{m.To, true})
	}
	s.takeLocked(l, out)
	return nil
}

// SessionOpened rings a session that came while its user is rung.
func (s *Switchboard) SessionOpened(session protocol.SessionID, user protocol.UserID) {
	s.news(SessionOpened, session, user)
}

// ConnectionLost says that a session has no connection but may come back.
func (s *Switchboard) ConnectionLost(session protocol.SessionID, user protocol.UserID) {
	s.news(ConnectionLost, session, user)
}

// ConnectionBack says that a session was resumed.
func (s *Switchboard) ConnectionBack(session protocol.SessionID, user protocol.UserID) {
	s.news(ConnectionBack, session, user)
}

// SessionEnded says that a session will not come back.
func (s *Switchboard) SessionEnded(session protocol.SessionID, user protocol.UserID) {
	s.news(SessionEnded, session, user)
}

func (s *Switchboard) news(kind Kind, session protocol.SessionID, user protocol.UserID) {
	defer s.do()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[s.inCall[user]]; c != nil {
		s.stepLocked(c, Input{Kind: kind, User: user, Session: session})
	}
}

// Close ends no call for its parties, whose media goes on without us, but
// records each and takes no new ones.
func (s *Switchboard) Close() {
	s.mu.Lock()
	s.closed = true
	now := time.Now()
	for _, c := range s.calls {
		if c.state == Ended {
			continue
		}
		for _, o := range c.end(protocol.ReasonRestarted, "", now) {
			switch o := o.(type) {
			case StopTimer, Finish:
				s.takeLocked(c, []Output{o})
			}
		}
	}
	s.mu.Unlock()
	s.do()
	// Another goroutine may be at it: the records must be handed over when we return.
	s.mu.Lock()
	for s.doing {
		s.done.Wait()
	}
	s.mu.Unlock()
}

// setBusy is an output of the switchboard itself.
type setBusy struct {
	user protocol.UserID
	busy bool
}

func (setBusy) output() {}

func (s *Switchboard) stepLocked(c *live, in Input) {
	s.takeLocked(c, c.Step(in, time.Now()))
}

// takeLocked does what concerns the switchboard itself, in the same breath as
// the step, and leaves the rest to do.
func (s *Switchboard) takeLocked(c *live, out []Output) {
	for _, o := range out {
		switch o := o.(type) {
		case SetTimer:
			s.setTimerLocked(c, o)
		case StopTimer:
			stop(&c.timers[o.Kind])
		case Finish:
			s.pending = append(s.pending, o)
			caller, callee := c.Parties()
			for _, user := range []protocol.UserID{caller, callee} {
				if s.inCall[user] == c.ID {
					delete(s.inCall, user)
					s.pending = append(s.pending, setBusy{user, false})
				}
			}
			time.AfterFunc(protocol.Duration(s.cfg.Timings.ResumeMs), func() { s.forget(c.ID) })
		default:
			s.pending = append(s.pending, o)
		}
	}
}

func (s *Switchboard) setTimerLocked(c *live, o SetTimer) {
	stop(&c.timers[o.Kind])
	var timer *time.Timer
	timer = time.AfterFunc(o.After, func() {
		defer s.do()
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.timers[o.Kind] == timer { // else it was stopped while it fired
			c.timers[o.Kind] = nil
			s.stepLocked(c, Input{Kind: o.Kind})
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

func (s *Switchboard) forget(id protocol.CallID) {
	s.mu.Lock()
	delete(s.calls, id)
	s.mu.Unlock()
}

// do does the pending outputs without the lock but in order: the one goroutine
// that finds nobody at it does its own and what others add meanwhile.
func (s *Switchboard) do() {
	s.mu.Lock()
	if s.doing {
		s.mu.Unlock()
		return
	}
	s.doing = true
	for len(s.pending) > 0 {
		batch := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, o := range batch {
			s.doOne(o)
		}
		s.mu.Lock()
	}
	s.doing = false
	s.done.Broadcast()
	s.mu.Unlock()
}

func (s *Switchboard) doOne(o Output) {
	defer func() {
		if p := recover(); p != nil { // one output must not stop the others
			s.metrics.panics.Inc()
			s.cfg.Log.Error("panic while doing what a call wanted", "output", fmt.Sprintf("%T", o), "panic", p)
		}
	}()
	switch o := o.(type) {
	case Send:
		s.cfg.Router.SendSession(o.Session, o.Message)
	case SendUser:
		s.cfg.Router.SendUser(o.User, o.Except, o.Message)
	case setBusy:
		s.cfg.Router.SetBusy(o.user, o.busy)
	case Finish:
		s.metrics.ended.WithLabelValues(string(o.Record.Reason)).Inc()
		s.cfg.Log.Info("call ended", "call", o.Record.Call, "reason", o.Record.Reason, "duration", o.Record.Duration())
		s.cfg.Recorder.Record(o.Record)
	}
}

// maxRingers bounds the map of limiters; those that are full again say nothing
// and go first.
const maxRingers = 10_000

func (s *Switchboard) mayRingLocked(user protocol.UserID, now time.Time) bool {
	l := s.rings[user]
	if l == nil {
		if len(s.rings) >= maxRingers {
			for u, l := range s.rings {
				if l.TokensAt(now) >= float64(l.Burst()) {
					delete(s.rings, u)
				}
			}
		}
		per := s.cfg.RingsPerMinute
		l = rate.NewLimiter(rate.Every(time.Minute/time.Duration(per)), per)
		s.rings[user] = l
	}
	return l.AllowN(now, 1)
}

// count counts the calls that have not ended, by state.
func (s *Switchboard) count() (ringing, active int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		switch c.state {
		case Ringing:
			ringing++
		case Active:
			active++
		}
	}
	return ringing, active
}
