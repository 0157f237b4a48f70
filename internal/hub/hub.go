// Package hub keeps the sessions of this node: their connections, their outgoing
// queues, their resumption after a lost connection, and presence. It knows nothing of
// calls, accounts or sockets.
//
//	edge ── Attach(conn, user, hello) ─▶ Hub ── welcome, missed messages ──▶ conn
//	edge ── Line.Receive(frame) ───────▶ Hub ── HandleMessage ──▶ Handler (call)
//	call ── SendSession, SendUser ─────▶ Hub ── queue ── writer ──▶ conn
//
// Start reading at [New] and [Hub.Attach].
package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// Conn is one connection of a client, as the hub sees it.
type Conn interface {
	// Send writes one frame. It must not keep the frame after it returns. It may block;
	// the connection bounds for how long. Only one goroutine at a time calls it.
	Send(frame []byte) error
	// Close closes the connection without blocking. Any goroutine may call it, more than
	// once.
	Close(code protocol.CloseCode, reason string)
	// Address returns the client's IP address, or the zero Addr if it is not known.
	Address() netip.Addr
}

// TrySender is a Conn that can also write without blocking. The goroutine that produces
// a message writes it to a TrySender itself. For any other Conn the hub starts a writer
// goroutine.
type TrySender interface {
	Conn
	// TrySend writes one frame as Send does if that does not block. Otherwise it writes
	// nothing and sent is false. Only one goroutine at a time calls it or Send.
	TrySend(frame []byte) (sent bool, err error)
}

// Handler acts on the messages and the events of sessions. The hub calls it with no lock
// held, and delivers the events of one session in order. HandleMessage may take a second
// or two: the reader of the session's connection calls it. The other methods must not
// block.
type Handler interface {
	// HandleMessage acts on a message of a session. The error is for that session.
	HandleMessage(from origin.Origin, m protocol.Message) *protocol.Error
	// SessionOpened reports a new session.
	SessionOpened(origin.Origin)
	// SessionTakenOver reports that a new session has replaced an old one, which has
	// ended.
	SessionTakenOver(old protocol.SessionID, by origin.Origin)
	// PageClosed reports that a session has lost its connection because its page was closed.
	PageClosed(origin.Origin)
	// ConnectionLost reports that a session has lost its connection. It can be resumed.
	ConnectionLost(origin.Origin)
	// ConnectionBack reports that a session was resumed on a new connection.
	ConnectionBack(origin.Origin)
	// SessionEnded reports that a session has ended for good.
	SessionEnded(origin.Origin)
	// PageHidden reports that a page which the user saw is hidden now, or that its
	// connection is gone.
	PageHidden(origin.Origin)
	// SignedOut reports that a user has signed out everywhere. All their sessions have
	// ended before.
	SignedOut(protocol.UserID)
}

// Config configures a [Hub]. Log is required.
type Config struct {
	ICEServers func(user protocol.UserID, scope string) []protocol.ICEServer // none by default
	Timings    protocol.Timings                                              // [protocol.DefaultTimings] by default
	// MaxSessions bounds the sessions of this node; 100,000 by default.
	MaxSessions int
	// MaxKept bounds the bytes of unacknowledged messages in all sessions together; 128 MiB
	// by default.
	MaxKept    int
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
}

func (c *Config) validate() error {
	if c.Log == nil {
		return errors.New("hub: a log is needed")
	}
	if c.ICEServers == nil {
		c.ICEServers = func(protocol.UserID, string) []protocol.ICEServer { return nil }
	}
	if c.Timings.RingMs == 0 {
		c.Timings = protocol.DefaultTimings()
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 100_000
	}
	if c.MaxKept == 0 {
		c.MaxKept = 128 << 20
	}
	return nil
}

const (
	// presenceGrace is how long a user without a connection still counts as online, so
	// that a reload of the page is not seen as going offline.
	presenceGrace = 3 * time.Second
	// maxUserSessions bounds one user's devices and tabs.
	maxUserSessions = 20
)

// Hub owns the sessions of a node. Any goroutine may call its methods. None of them but
// Run blocks.
type Hub struct {
	cfg     Config
	metrics metrics
	handler Handler // set once, before the first Attach
	// goroutines are the writers of connections that would block, and those that close
	// connections.
	goroutines sync.WaitGroup

	mu sync.Mutex // guards all below, and sessions and lines; no Handler or Conn is called while it is held
	// sessions holds every session that has not ended, with or without a connection.
	// byResume finds them by their resume token. watchers are the sessions that asked for
	// presence. away are the sessions without a connection. leaving are the users who have
	// lost their last connection and still count as online, the earliest first.
	sessions map[protocol.SessionID]*session
	byResume map[string]*session
	watchers map[*session]struct{}
	away     away
	leaving  []leaving
	kept     int // bytes of all sessions' queues
	users    map[protocol.UserID]*user
	presence presence
	closed   bool
	ended    bool // goLocked starts nothing any more
	rounds   rounds
	// writing counts the lines that have a writer, or are in unwritten. While stop waits
	// for it to become 0, written is the channel that is closed then.
	writing int
	written chan struct{}
	// unwritten are the lines that have something to write and no writer yet: see flush.
	unwritten []*Line
	// events are calls of the handler, in order. The goroutine that has set delivering
	// makes them.
	events     []func()
	delivering bool
}

// user is a user who has a session here.
type user struct {
	protocol.User // Presence is what others were told last, or will be in the next announcement
	sessions      []*session
	prefers       protocol.Prefer
	busy          bool
	told          string    // the name, as Presence
	version       uint64    // of the last announcement of presence that has this user
	called        bool      // has been in a call since their first session here
	awaySince     time.Time // when they lost their last connection; zero while they have one
}

// noteAway updates awaySince. It reports whether the user has just lost their last
// connection.
func (u *user) noteAway(now time.Time) bool {
	connected := slices.ContainsFunc(u.sessions, func(s *session) bool { return s.line != nil })
	switch {
	case connected:
		u.awaySince = time.Time{}
	case u.awaySince.IsZero():
		u.awaySince = now
		return true
	}
	return false
}

// New returns a hub without sessions. Handle must be called before any other method.
func New(cfg Config) (*Hub, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		cfg:      cfg,
		sessions: map[protocol.SessionID]*session{},
		byResume: map[string]*session{},
		watchers: map[*session]struct{}{},
		rounds:   newRounds(protocol.Duration(cfg.Timings.PingMs)),
		users:    map[protocol.UserID]*user{},
		presence: newPresence(),
	}
	h.metrics = newMetrics(cfg.Registerer, h)
	return h, nil
}

// Handle sets the handler. It must be called once, before the first Attach.
func (h *Hub) Handle(handler Handler) { h.handler = handler }

// Attach gives a connection whose client has said hello its session: the one that it
// resumes, or a new one. When Attach returns, the welcome and the messages that the
// client missed are queued. token is sent in the welcome. The error is for the client.
func (h *Hub) Attach(conn Conn, who protocol.User, token string, hello *protocol.Hello) (*Line, *protocol.Error) {
	fresh := protocol.NewSessionID()
	ice, address := h.cfg.ICEServers(who.ID, string(fresh)), conn.Address()
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, protocol.Errorf(protocol.CodeRestarting, "the server is about to restart")
	}
	now := time.Now()
	s := h.byResume[hello.Resume]
	resumed := s != nil && s.user.ID == who.ID && !hello.Reload && s.canReplay(hello.Received)
	if !resumed {
		old := s
		var refused *protocol.Error
		if s, refused = h.openLocked(who, fresh, old); refused != nil {
			return nil, refused
		}
		if old != nil && old.user.ID == who.ID {
			// The old session ends after the new one is there, so that the user is not
			// without a session in between.
			by := origin.Origin{Session: fresh, User: s.user.User, Address: address, AlwaysRelay: hello.AlwaysRelay}
			h.events = append(h.events, func() { h.handler.SessionTakenOver(old.id, by) })
			h.endLocked(old)
		}
	}
	if old := s.line; old != nil {
		h.goLocked(func() { h.hangUp(old.conn, protocol.CloseReplaced, "another connection has taken this session") })
	}
	line := &Line{hub: h, session: s, conn: conn, address: address, resumed: resumed, seen: now, bucket: bucket{tokens: burst, at: now}}
	if resumed {
		line.sent = hello.Received
		h.forgetLocked(s, hello.Received)
	}
	s.line = line
	h.away.remove(s)
	h.rounds.add(line)
	if hello.Presence {
		h.watchers[s] = struct{}{}
	} else {
		delete(h.watchers, s)
	}
	u := s.user
	u.Name = who.Name
	u.prefers = protocol.Prefer{WhenBusy: hello.WhenBusy, DoNotDisturb: hello.DoNotDisturb}
	s.alwaysRelays = hello.AlwaysRelay
	h.showLocked(s, hello.Device, hello.Visible)
	h.noteAwayLocked(u, now)
	h.presenceLocked(u, now)

	welcome := &protocol.Welcome{
		Session: s.id, Resume: s.resume, Resumed: resumed, Received: s.received,
		User: u.User, Token: token, ICEServers: ice, Timings: h.cfg.Timings,
	}
	if hello.Presence {
		welcome.Users, welcome.Partial = h.changesLocked(h.presence.since(hello.PresenceAt), who.ID)
		welcome.PresenceAt = h.presence.cursor()
		line.watches, line.presence = true, h.presence.version
	}
	line.urgent = append(line.urgent, protocol.Encode(welcome))
	line.wakeLocked()
	if resumed {
		h.eventLocked(s, h.handler.ConnectionBack)
	} else {
		h.eventLocked(s, h.handler.SessionOpened)
	}
	return line, nil
}

// openLocked opens a new session, which may replace an old one. If there are too many
// sessions, it ends one without a connection. The error says that there was none to end.
func (h *Hub) openLocked(who protocol.User, id protocol.SessionID, old *session) (*session, *protocol.Error) {
	if len(h.sessions) >= h.cfg.MaxSessions {
		s := h.away.dispensable(old)
		if s == nil {
			return nil, protocol.Errorf(protocol.CodeFull, "this server has as many visitors as it takes; try again later")
		}
		h.endLocked(s)
	}
	if u := h.users[who.ID]; u != nil && len(u.sessions) >= maxUserSessions {
		i := slices.IndexFunc(u.sessions, func(s *session) bool { return s.line == nil && s != old })
		if i < 0 {
			return nil, protocol.Errorf(protocol.CodeFull, "you are here with as many devices and tabs as this server takes")
		}
		h.endLocked(u.sessions[i])
	}
	u := h.users[who.ID]
	if u == nil {
		u = &user{User: who}
		u.Presence = protocol.Offline
		h.users[who.ID] = u
	}
	s := &session{id: id, resume: strings.ToLower(rand.Text()), user: u}
	u.sessions = append(u.sessions, s)
	h.sessions[s.id], h.byResume[s.resume] = s, s
	return s, nil
}

// SendSession sends a message to one session. A session without a connection gets it when
// it is resumed. If the session has ended, SendSession does nothing.
func (h *Hub) SendSession(id protocol.SessionID, m protocol.Message) {
	frame := protocol.Encode(m)
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[id]; s != nil {
		h.pushLocked(s, frame)
		h.withdrawRingLocked(s, m)
	}
}

// SendUser sends a message to every session of a user other than except.
func (h *Hub) SendUser(id protocol.UserID, except protocol.SessionID, m protocol.Message) {
	frame := protocol.Encode(m)
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		for _, s := range u.sessions {
			if s.id != except {
				h.pushLocked(s, frame)
				h.withdrawRingLocked(s, m)
			}
		}
	}
}

// Here returns a user who has a session, and their preferences for a ring. here reports
// whether the user has a session.
func (h *Hub) Here(id protocol.UserID) (u protocol.User, prefers protocol.Prefer, here bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		return u.User, u.prefers, true
	}
	return protocol.User{}, protocol.Prefer{}, false
}

// Dismiss ends the sessions of a user whose presence is offline and who is in no call. It
// reports whether the user has no session now. It reports false for a user who is
// connected, in a call, or lost their last connection less than presenceGrace ago.
func (h *Hub) Dismiss(id protocol.UserID) bool {
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	u := h.users[id]
	switch {
	case u == nil:
		return true
	case u.busy, u.awaySince.IsZero(), time.Since(u.awaySince) < presenceGrace:
		return false
	}
	for _, s := range slices.Clone(u.sessions) {
		h.endLocked(s)
	}
	return true
}

// Beacon handles the last message of a page that closes as if the session of a resume
// token had sent it, with or without a connection. It ignores an unknown token.
func (h *Hub) Beacon(resume string, m protocol.Message) {
	h.mu.Lock()
	s := h.byResume[resume]
	if s == nil {
		h.mu.Unlock()
		return
	}
	from := s.origin()
	h.mu.Unlock()
	h.guard("a beacon", func() { _ = h.handler.HandleMessage(from, m) }) // the page is gone and cannot read an error
}

// Leave ends the session of a resume token: a page that closes for good asks for this by
// a beacon. It ignores an unknown token.
func (h *Hub) Leave(resume string) {
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.byResume[resume]; s != nil {
		h.endLocked(s)
	}
}

// SignOut ends the sessions of a user who has signed out everywhere. The close code tells
// their clients why.
func (h *Hub) SignOut(id protocol.UserID) {
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		for _, s := range slices.Clone(u.sessions) {
			h.endAsLocked(s, protocol.CloseSignedOut, "the user has signed out everywhere")
		}
	}
	h.events = append(h.events, func() { h.handler.SignedOut(id) })
}

// SetBusy records whether a user is in a call. Their presence follows it.
func (h *Hub) SetBusy(id protocol.UserID, busy bool) {
	defer h.flush()
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		u.busy = busy
		if busy && !u.called {
			u.called = true
			for _, s := range u.sessions {
				if s.away != nil { // it waits longer now
					h.away.remove(s)
					h.away.add(s)
				}
			}
		}
		h.presenceLocked(u, time.Now())
	}
}

// endLocked ends a session for good.
func (h *Hub) endLocked(s *session) {
	h.endAsLocked(s, protocol.CloseReplaced, "the session has ended")
}

// endAsLocked ends a session for good and closes its connection with a code and a reason.
func (h *Hub) endAsLocked(s *session, code protocol.CloseCode, reason string) {
	delete(h.sessions, s.id)
	delete(h.byResume, s.resume)
	delete(h.watchers, s)
	h.away.remove(s)
	h.keepNoneLocked(s)
	u, from := s.user, s.origin()
	u.sessions = slices.DeleteFunc(u.sessions, func(other *session) bool { return other == s })
	if line := s.line; line != nil {
		s.line = nil
		h.showLocked(s, "", false)
		h.goLocked(func() { h.hangUp(line.conn, code, reason) })
	}
	h.noteAwayLocked(u, time.Now())
	h.events = append(h.events, func() { h.handler.SessionEnded(from) })
	if len(u.sessions) == 0 {
		h.presenceLocked(u, time.Now())
		delete(h.users, u.ID)
	}
}

// maxDirectWrites is how many lines the goroutine that produces a message writes to
// itself. A message of a call goes to two parties, but presence may go to everyone.
const maxDirectWrites = 4

// flush writes to the lines that have something unwritten, and delivers the events to the
// handler in order. Every method that may have queued either calls it after it has
// released the lock.
func (h *Hub) flush() {
	h.mu.Lock()
	lines := h.unwritten
	h.unwritten = nil
	for i, l := range lines {
		if _, ok := l.conn.(TrySender); !ok || i >= maxDirectWrites {
			h.goLocked(func() { l.writeOn(nil) })
		}
	}
	events := len(h.events) > 0
	h.mu.Unlock()
	for _, l := range lines[:min(len(lines), maxDirectWrites)] {
		if conn, ok := l.conn.(TrySender); ok {
			l.tryWrite(conn)
		}
	}
	if events {
		h.deliverEvents()
	}
}

// deliverEvents calls the handler for the queued events, unless another goroutine does.

func (h *Hub) deliverEvents() {
	h.mu.Lock()
	if h.delivering {
		h.mu.Unlock()
		return
	}
	h.delivering = true
	for len(h.events) > 0 {
		events := h.events
		h.events = nil
		h.mu.Unlock()
		for _, e := range events {
			h.guard("news of a session", e)
		}
		h.mu.Lock()
	}
	h.delivering = false
	h.mu.Unlock()
}

// eventLocked queues an event of a session: a method of the handler.
func (h *Hub) eventLocked(s *session, event func(origin.Origin)) {
	from := s.origin()
	h.events = append(h.events, func() { event(from) })
}

// goLocked runs f in a goroutine for which Run waits. After Run it does nothing: all
// connections are closed.
func (h *Hub) goLocked(f func()) {
	if !h.ended {
		h.goroutines.Go(f)
	}
}

// guard keeps a panic of f from ending the process. It reports whether f returned without
// one.
func (h *Hub) guard(what string, f func()) (ok bool) { return panics.Contain(h.cfg.Log, what, f) }

// hangUp closes a connection. It runs in a goroutine of its own, so that the hub does not
// rely on Close not to block.
func (h *Hub) hangUp(conn Conn, code protocol.CloseCode, reason string) {
	h.guard("a connection", func() { conn.Close(code, reason) })
}

// Run pings connections, ends sessions whose resume window is over, and announces changes
// of presence until ctx is done. Then it sends every session restarting, closes the
// connections, and returns when all goroutines of the hub have ended.
func (h *Hub) Run(ctx context.Context) error {
	var announcing sync.WaitGroup
	defer announcing.Wait()
	announcing.Go(func() { h.announce(ctx) })
	ticker := time.NewTicker(round)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			h.stop()
			return nil
		case now := <-ticker.C:
			h.guard("a round of the hub", func() {
				quiet := h.tick(now)
				h.flush()
				h.ping(ctx, quiet)
			})
		}
	}
}

// tick ends the sessions whose resume window is over, and returns the lines to ping.
func (h *Hub) tick(now time.Time) (quiet []*Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.awayTickLocked(now)
	return h.roundLocked(now)
}

// yieldLocked releases the lock for a moment at every 256th step of a loop. A loop over
// many sessions would otherwise hold up messages for many milliseconds.
func (h *Hub) yieldLocked(walked int) {
	if walked%256 == 0 {
		h.mu.Unlock()
		runtime.Gosched()
		h.mu.Lock()
	}
}

// The back-off that a stopping server asks for. It is long enough for a restart, and
// spread so that the clients do not reconnect all at once.
const (
	restartMinMs = 500
	restartMaxMs = 3000
	// stopTimeout bounds how long stop waits for that message to be written.
	stopTimeout = time.Second
)

func (h *Hub) stop() {
	h.mu.Lock()
	h.closed = true
	frame := protocol.Encode(&protocol.Restarting{MinMs: restartMinMs, MaxMs: restartMaxMs})
	var lines []*Line
	for _, s := range h.sessions {
		h.pushLocked(s, frame)
		if s.line != nil {
			lines = append(lines, s.line)
		}
	}
	h.mu.Unlock()
	h.flush()

	h.mu.Lock()
	written := make(chan struct{})
	if h.written = written; h.writing == 0 {
		close(written)
		h.written = nil
	}
	h.mu.Unlock()
	select {
	case <-written:
	case <-time.After(stopTimeout):
	}
	for _, l := range lines {
		h.hangUp(l.conn, protocol.CloseRestarting, "the server restarts")
	}
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.goroutines.Wait() // none blocks for long: their connections are closed
}
