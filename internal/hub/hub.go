// Package hub keeps the sessions of this node: their connections, their outgoing
// queues, taking them up again after a lost connection, and presence. It knows
// nothing of calls, accounts and sockets.
//
//	edge ── Attach(conn, user, hello) ─▶ Hub ── welcome, what was missed ──▶ conn
//	edge ── Line.Receive(frame) ───────▶ Hub ── HandleMessage ──▶ Handler (call)
//	call ── SendSession, SendUser ─────▶ Hub ── queue ── writer ──▶ conn
//
// Come in at [New] and [Hub.Attach].
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
	// Send writes one frame, and does not keep it. It may block, but not for ever:
	// the connection bounds it. Only one goroutine at a time calls it.
	Send(frame []byte) error
	// Close closes the connection. Any goroutine may call it, also twice; it
	// does not block.
	Close(code protocol.CloseCode, reason string)
	// Address is the client's IP address; invalid when it is not known.
	Address() netip.Addr
}

// Prompt is a Conn that can also write without waiting. The hub writes to it from
// the goroutine that has something to say; for others it starts one.
type Prompt interface {
	Conn
	// TrySend is Send when that needs no waiting, else it takes nothing and sent is
	// false. Only one goroutine at a time calls it or Send.
	TrySend(frame []byte) (sent bool, err error)
}

// Handler acts on what sessions send and on what becomes of them. The news of
// one session come in order. None of the methods blocks, but for HandleMessage, which
// may take a second or two and is called by the reader of the session's connection.
type Handler interface {
	HandleMessage(from origin.Origin, m protocol.Message) *protocol.Error
	SessionOpened(origin.Origin)
	// SessionTakenOver tells that a new session has taken the place of an old one,
	// which has ended.
	SessionTakenOver(old protocol.SessionID, by origin.Origin)
	// PageClosed tells that a connection went because its page did.
	PageClosed(origin.Origin)
	ConnectionLost(origin.Origin)
	ConnectionBack(origin.Origin)
	SessionEnded(origin.Origin)
	// PageHidden tells that a page which the person saw is hidden, or its connection is gone.
	PageHidden(origin.Origin)
	// SignedOut tells that a user has signed out everywhere, after all their sessions have ended.
	SignedOut(protocol.UserID)
}

// Config is what a [Hub] is made of.
type Config struct {
	ICEServers func(user protocol.UserID, scope string) []protocol.ICEServer // none by default
	Timings    protocol.Timings                                              // [protocol.DefaultTimings] by default
	// MaxSessions bounds the sessions of this node; 100,000 by default.
	MaxSessions int
	// MaxKept bounds the bytes that wait to be acknowledged, of all sessions; 128 MiB by
	// default.
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
	// presenceGrace is how long a user without connection still counts as
	// online, so that a reload does not flicker.
	presenceGrace = 3 * time.Second
	// maxUserSessions bounds one user's devices and tabs.
	maxUserSessions = 20
)

// Hub owns the sessions of a node. Its methods may be called by any goroutine;
// none blocks.
type Hub struct {
	cfg     Config
	metrics metrics
	handler Handler // set once, before the first Attach
	// goroutines write to connections that do not take all at once, and close connections.
	goroutines sync.WaitGroup

	mu sync.Mutex // guards all below and what sessions and lines hold; nothing is called while it is held
	// sessions are those that live, connected or not; byResume finds them by their secret.
	// watchers are those that want to know of presence, away those without connection,
	// leaving the users without one whom others still see, in the order in which they went.
	sessions map[protocol.SessionID]*session
	byResume map[string]*session
	watchers map[*session]struct{}
	away     away
	leaving  []leaving
	kept     int // bytes of all sessions' queues
	users    map[protocol.UserID]*user
	presence presence
	closed   bool
	ended    bool // no goroutine begins any more
	rounds   rounds
	// writing counts the lines to which somebody writes, or is about to. written is closed when
	// there is none; nil while nobody waits for that.
	writing int
	written chan struct{}
	// due are lines that have something to write and nobody who does.
	due []*Line
	// news waits to be told to the handler, in order, by the one goroutine that
	// set telling.
	news    []func()
	telling bool
}

// user is someone who has a session here.
type user struct {
	protocol.User // Presence is what others were told last, or are about to be
	sessions      []*session
	prefers       protocol.Prefer
	busy          bool
	told          string    // the name that others were told last, or are about to be
	version       uint64    // of the announcement of presence that spoke of them last
	called        bool      // was in a call since they came
	awaySince     time.Time // when the last connection went; zero while there is one
}

// noteAway takes note of when the user's last connection went, and reports whether that
// is new.
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

// New is a hub without sessions. Handle must be called before it is used.
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

// Handle sets who acts on messages: once, before the first Attach.
func (h *Hub) Handle(handler Handler) { h.handler = handler }

// Attach gives a connection that has said hello its session: the one it
// resumes, or a new one. Its welcome, and what it missed, are on their way when
// Attach returns. token is passed on in the welcome. The error is for the client.
func (h *Hub) Attach(conn Conn, who protocol.User, token string, hello *protocol.Hello) (*Line, *protocol.Error) {
	fresh := protocol.NewSessionID()
	ice, address := h.cfg.ICEServers(who.ID, string(fresh)), conn.Address()
	defer h.tell()
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
			// The new session first, so that the user does not leave in between.
			by := origin.Origin{Session: fresh, User: s.user.User, Address: address, AlwaysRelay: hello.AlwaysRelay}
			h.news = append(h.news, func() { h.handler.SessionTakenOver(old.id, by) })
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
		h.newsLocked(s, h.handler.ConnectionBack)
	} else {
		h.newsLocked(s, h.handler.SessionOpened)
	}
	return line, nil
}

// openLocked makes a new session, which may take the place of an old one. When there are
// too many, one that is away gives way.
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

// SendSession sends a message to one session; one that is gone is fine. A
// session without connection gets it when it comes back.
func (h *Hub) SendSession(id protocol.SessionID, m protocol.Message) {
	frame := protocol.Encode(m)
	defer h.tell()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[id]; s != nil {
		h.pushLocked(s, frame)
		h.noteCallLocked(s, m)
	}
}

// SendUser sends a message to every session of a user but except.
func (h *Hub) SendUser(id protocol.UserID, except protocol.SessionID, m protocol.Message) {
	frame := protocol.Encode(m)
	defer h.tell()
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		for _, s := range u.sessions {
			if s.id != except {
				h.pushLocked(s, frame)
				h.noteCallLocked(s, m)
			}
		}
	}
}

// Here is a user who has a session, what they want to become of a ring, and whether they
// have one.
func (h *Hub) Here(id protocol.UserID) (u protocol.User, prefers protocol.Prefer, here bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		return u.User, u.prefers, true
	}
	return protocol.User{}, protocol.Prefer{}, false
}

// Dismiss ends the sessions of a user who counts as offline, as presence does, and is in no
// call. It reports whether the user has no session now: others are here, or may be back in a
// moment.
func (h *Hub) Dismiss(id protocol.UserID) bool {
	defer h.tell()
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

// Beacon is a last message of a page that goes: as if the session of a resume
// token had sent it, whatever its connection does. Unknown tokens are nothing.
func (h *Hub) Beacon(resume string, m protocol.Message) {
	h.mu.Lock()
	s := h.byResume[resume]
	if s == nil {
		h.mu.Unlock()
		return
	}
	from := s.origin()
	h.mu.Unlock()
	h.guard("a beacon", func() { _ = h.handler.HandleMessage(from, m) }) // nobody is there to be told
}

// Leave ends the session of a resume token, as a page that goes for good asks
// by a beacon. Unknown tokens are nothing.
func (h *Hub) Leave(resume string) {
	defer h.tell()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.byResume[resume]; s != nil {
		h.endLocked(s)
	}
}

// SignOut ends the sessions of a user who has signed out everywhere, and tells their
// clients by the close code.
func (h *Hub) SignOut(id protocol.UserID) {
	defer h.tell()
	h.mu.Lock()
	defer h.mu.Unlock()
	if u := h.users[id]; u != nil {
		for _, s := range slices.Clone(u.sessions) {
			h.endAsLocked(s, protocol.CloseSignedOut, "the user has signed out everywhere")
		}
	}
	h.news = append(h.news, func() { h.handler.SignedOut(id) })
}

// SetBusy says whether a user is in a call.
func (h *Hub) SetBusy(id protocol.UserID, busy bool) {
	defer h.tell()
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

// endLocked takes a session out for good.
func (h *Hub) endLocked(s *session) {
	h.endAsLocked(s, protocol.CloseReplaced, "the session has ended")
}

// endAsLocked is endLocked of a session whose client hears why.
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
	h.news = append(h.news, func() { h.handler.SessionEnded(from) })
	if len(u.sessions) == 0 {
		h.presenceLocked(u, time.Now())
		delete(h.users, u.ID)
	}
}

// maxPrompt is how many lines the goroutine that has something to say writes to
// itself: a call has two parties, but presence may go to everyone.
const maxPrompt = 4

// tell does, without the lock, what was left to do after it: it writes what is due,
// and tells the handler the news, in order. Whoever may have left something calls it.
func (h *Hub) tell() {
	h.mu.Lock()
	due := h.due
	h.due = nil
	for i, l := range due {
		if _, ok := l.conn.(Prompt); !ok || i >= maxPrompt {
			h.goLocked(func() { l.writeOn(nil) })
		}
	}
	news := len(h.news) > 0
	h.mu.Unlock()
	for _, l := range due[:min(len(due), maxPrompt)] {
		if prompt, ok := l.conn.(Prompt); ok {
			l.writePromptly(prompt)
		}
	}
	if news {
		h.tellNews()
	}
}

func (h *Hub) tellNews() {
	h.mu.Lock()
	if h.telling {
		h.mu.Unlock()
		return
	}
	h.telling = true
	for len(h.news) > 0 {
		news := h.news
		h.news = nil
		h.mu.Unlock()
		for _, n := range news {
			h.guard("news of a session", n)
		}
		h.mu.Lock()
	}
	h.telling = false
	h.mu.Unlock()
}

// newsLocked has the handler told news of a session.
func (h *Hub) newsLocked(s *session, news func(origin.Origin)) {
	from := s.origin()
	h.news = append(h.news, func() { news(from) })
}

// goLocked runs f in a goroutine, for which Run waits. After Run there is nobody to write to.
func (h *Hub) goLocked(f func()) {
	if !h.ended {
		h.goroutines.Go(f)
	}
}

// guard keeps a panic from taking the node down. It reports whether f came to
// its end.
func (h *Hub) guard(what string, f func()) (ok bool) { return panics.Contain(h.cfg.Log, what, f) }

// hangUp closes a connection, whose Close may block.
func (h *Hub) hangUp(conn Conn, code protocol.CloseCode, reason string) {
	h.guard("a connection", func() { conn.Close(code, reason) })
}

// Run pings connections, ends sessions that did not come back, and keeps
// presence true, until ctx is done; then it tells every session to come back
// later and closes their connections.
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
				h.tell()
				h.ping(ctx, quiet)
			})
		}
	}
}

// tick ends what has waited long enough, and returns the lines that are to be pinged.
func (h *Hub) tick(now time.Time) (quiet []*Line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.awayTickLocked(now)
	return h.roundLocked(now)
}

// breatheLocked lets others have the lock at every 256th step of a walk, which takes
// many milliseconds when everybody is away.
func (h *Hub) breatheLocked(walked int) {
	if walked%256 == 0 {
		h.mu.Unlock()
		runtime.Gosched()
		h.mu.Lock()
	}
}

// Back-off that a stopping server asks for: long enough for a restart, spread
// so that all do not come at once.
const (
	restartMinMs = 500
	restartMaxMs = 3000
	// farewell is how long stop waits for writers to get rid of that message.
	farewell = time.Second
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
	h.tell()

	h.mu.Lock()
	written := make(chan struct{})
	if h.written = written; h.writing == 0 {
		close(written)
		h.written = nil
	}
	h.mu.Unlock()
	select {
	case <-written:
	case <-time.After(farewell):
	}
	for _, l := range lines {
		h.hangUp(l.conn, protocol.CloseRestarting, "the server restarts")
	}
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.goroutines.Wait() // their connections are closed
}
