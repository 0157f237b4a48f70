package call

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// townSession is a session of a [town], as the hub keeps it.
type townSession struct {
	user protocol.UserID
	away bool
	kept []protocol.Message // for when it is back
}

// town is everything round a switchboard: sessions that come and go and hear
// what they are sent, what their users prefer, and the records.
type town struct {
	house
	early          bool
	pusher         Pusher // may be nil, as devices
	devices        account.Devices
	ringsPerMinute int
	// hear gets what a session is sent, with mu held.
	hear  func(protocol.SessionID, protocol.Message)
	board *Switchboard
	now   *life // of the board

	sessions map[protocol.SessionID]*townSession // guarded by house.mu, as all below
	order    []protocol.SessionID                // as they came
	prefers  map[protocol.UserID]protocol.Prefer
	busy     map[protocol.UserID]bool
}

// life is a town as one run of the server sees it. When that is over, what its
// timers still bring about reaches nobody.
type life struct {
	*town
	over bool // guarded by house.mu
}

func (l *life) lives() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.over
}

// SendSession implements [Router].
func (l *life) SendSession(s protocol.SessionID, m protocol.Message) {
	if l.lives() {
		l.town.SendSession(s, m)
	}
}

// SendUser implements [Router].
func (l *life) SendUser(user protocol.UserID, except protocol.SessionID, m protocol.Message) {
	if l.lives() {
		l.town.SendUser(user, except, m)
	}
}

// SetBusy implements [Router].
func (l *life) SetBusy(id protocol.UserID, busy bool) {
	if l.lives() {
		l.town.SetBusy(id, busy)
	}
}

// Record implements [Recorder].
func (l *life) Record(r Record) {
	if l.lives() {
		l.town.Record(r)
	}
}

// restart is a server that knows nothing but the records and a secret.
func (w *town) restart(t failer, secret string) {
	t.Helper()
	w.mu.Lock()
	if w.now != nil {
		w.now.over = true
	}
	w.now = &life{town: w}
	w.sessions, w.order = map[protocol.SessionID]*townSession{}, nil
	w.prefers, w.busy = map[protocol.UserID]protocol.Prefer{}, map[protocol.UserID]bool{}
	w.mu.Unlock()
	log := slog.New(slog.DiscardHandler)
	board, err := New(Config{
		Router: w.now, Directory: account.NewDirectory(w.now, w.now, w.devices, log), Recorder: w.now, Pusher: w.pusher, RingsPerMinute: w.ringsPerMinute, Secret: []byte(secret), EarlyAnswers: w.early, Log: log,
		ICEServers: func(user protocol.UserID, _ string) []protocol.ICEServer {
			if w.early {
				return []protocol.ICEServer{{URLs: []string{"turn:visavis"}, Username: string(user), Credential: "secret"}}
			}
			return []protocol.ICEServer{{URLs: []string{"stun:visavis"}}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.board = board
}

func userOf(s protocol.SessionID) protocol.UserID {
	return protocol.UserID(strings.TrimRight(string(s), "0123456789"))
}

// SendSession implements [Router].
func (w *town) SendSession(s protocol.SessionID, m protocol.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sendLocked(s, m)
}

// SendUser implements [Router].
func (w *town) SendUser(user protocol.UserID, except protocol.SessionID, m protocol.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.order {
		if w.sessions[s].user == user && s != except {
			w.sendLocked(s, m)
		}
	}
}

func (w *town) sendLocked(s protocol.SessionID, m protocol.Message) {
	switch to := w.sessions[s]; {
	case to == nil:
	case to.away:
		to.kept = append(to.kept, m)
	default:
		w.hear(s, m)
	}
}

// at is the origin of what a session says.
func (w *town) at(session protocol.SessionID) origin.Origin {
	if session == "" { // something that happens to the server
		return origin.Origin{}
	}
	from := w.house.at(session)
	from.User, _, _ = w.Here(from.User.ID)
	return from
}

// Here implements [account.Presence].
func (w *town) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	user := protocol.User{ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Presence: protocol.Online}
	if w.busy[id] {
		user.Presence = protocol.Busy
	}
	here := slices.ContainsFunc(w.order, func(s protocol.SessionID) bool { return w.sessions[s].user == id })
	return user, w.prefers[id], here
}

// Shown implements [Router].
func (*town) Shown(protocol.UserID, time.Time) []string { return nil }

// SetBusy implements [Router].
func (w *town) SetBusy(id protocol.UserID, busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[id] = busy
}

func (w *town) says(session protocol.SessionID, m protocol.Message) {
	if prefer, ok := m.(*protocol.Prefer); ok { // the hub's own
		w.mu.Lock()
		defer w.mu.Unlock()
		w.prefers[userOf(session)] = *prefer
		return
	}
	if err := w.board.HandleMessage(w.at(session), m); err != nil {
		w.SendSession(session, err)
	}
}

// happens tells the switchboard news of a session as hub.Hub does.
func (w *town) happens(t failer, s moment) {
	t.Helper()
	from := w.at(s.Session)
	switch s.Happens {
	case "opens":
		w.open(s.Session)
		w.board.SessionOpened(from)
	case "connection lost":
		w.away(s.Session)
		w.board.ConnectionLost(from)
	case "connection back":
		w.back(s.Session)
		w.board.ConnectionBack(from)
	case "page closed":
		w.away(s.Session)
		w.board.PageClosed(from)
	case "reloads":
		w.open(s.Session)
		w.board.SessionTakenOver(s.Of, from)
		w.end(s.Of)
		w.board.SessionOpened(from)
	case "comes anew":
		w.end(s.Of)
		w.open(s.Session)
		w.board.SessionOpened(from)
	case "server stops":
		w.board.Close()
	case "server lost":
		w.restart(t, "secret")
	case "server replaced":
		w.restart(t, "another secret")
	default:
		t.Fatalf("nobody knows what %q is", s.Happens)
	}
}

func (w *town) open(s protocol.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[s] = &townSession{user: userOf(s)}
	w.order = append(w.order, s)
}

func (w *town) away(s protocol.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[s].away = true
}

func (w *town) back(s protocol.SessionID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	session := w.sessions[s]
	session.away = false
	for _, m := range session.kept {
		w.sendLocked(s, m)
	}
	session.kept = nil
}

// end is the end of a session, if it is there.
func (w *town) end(s protocol.SessionID) {
	w.mu.Lock()
	there := w.sessions[s] != nil
	delete(w.sessions, s)
	w.order = slices.DeleteFunc(w.order, func(each protocol.SessionID) bool { return each == s })
	w.mu.Unlock()
	if there {
		w.board.SessionEnded(w.at(s))
	}
}
