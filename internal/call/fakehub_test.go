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

// fakeSession is a session of a [fakeHub].
type fakeSession struct {
	user protocol.UserID
	away bool
	kept []protocol.Message // sent when the connection is back
}

// fakeHub is a fakeRouter with sessions that open, lose their connection and end, as those of
// hub.Hub do. It owns the switchboard and can restart it.
type fakeHub struct {
	fakeRouter
	early          bool
	pusher         Pusher // may be nil, like devices
	devices        account.Devices
	ringsPerMinute int
	// onSend gets each message that a session receives. It is called with mu held.
	onSend func(protocol.SessionID, protocol.Message)
	board  *Switchboard
	run    *serverRun // the current one

	sessions map[protocol.SessionID]*fakeSession // guarded by fakeRouter.mu, as all below
	order    []protocol.SessionID                // as they came
	prefers  map[protocol.UserID]protocol.Prefer
	busy     map[protocol.UserID]bool
}

// serverRun is a fakeHub for one run of the server. After the run has ended it ignores what
// the timers of its switchboard still send.
type serverRun struct {
	*fakeHub
	ended bool // guarded by fakeRouter.mu
}

func (r *serverRun) lives() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.ended
}

// SendSession implements [Router].
func (r *serverRun) SendSession(s protocol.SessionID, m protocol.Message) {
	if r.lives() {
		r.fakeHub.SendSession(s, m)
	}
}

// SendUser implements [Router].
func (r *serverRun) SendUser(user protocol.UserID, except protocol.SessionID, m protocol.Message) {
	if r.lives() {
		r.fakeHub.SendUser(user, except, m)
	}
}

// SetBusy implements [Router].
func (r *serverRun) SetBusy(id protocol.UserID, busy bool) {
	if r.lives() {
		r.fakeHub.SetBusy(id, busy)
	}
}

// Record implements [Recorder].
func (r *serverRun) Record(record Record) {
	if r.lives() {
		r.fakeHub.Record(record)
	}
}

// restart replaces the switchboard by one that has only the records and the secret.
func (f *fakeHub) restart(t failer, secret string) {
	t.Helper()
	f.mu.Lock()
	if f.run != nil {
		f.run.ended = true
	}
	f.run = &serverRun{fakeHub: f}
	f.sessions, f.order = map[protocol.SessionID]*fakeSession{}, nil
	f.prefers, f.busy = map[protocol.UserID]protocol.Prefer{}, map[protocol.UserID]bool{}
	f.mu.Unlock()
	log := slog.New(slog.DiscardHandler)
	board, err := New(Config{
		Router: f.run, Directory: account.NewDirectory(f.run, f.run, f.devices, log), Recorder: f.run, Pusher: f.pusher, RingsPerMinute: f.ringsPerMinute, Secret: []byte(secret), EarlyAnswers: f.early, Log: log,
		ICEServers: func(user protocol.UserID, _ string) []protocol.ICEServer {
			if f.early {
				return []protocol.ICEServer{{URLs: []string{"turn:visavis"}, Username: string(user), Credential: "secret"}}
			}
			return []protocol.ICEServer{{URLs: []string{"stun:visavis"}}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.board = board
}

func userOf(s protocol.SessionID) protocol.UserID {
	return protocol.UserID(strings.TrimRight(string(s), "0123456789"))
}

// SendSession implements [Router].
func (f *fakeHub) SendSession(s protocol.SessionID, m protocol.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sendLocked(s, m)
}

// SendUser implements [Router].
func (f *fakeHub) SendUser(user protocol.UserID, except protocol.SessionID, m protocol.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.order {
		if f.sessions[s].user == user && s != except {
			f.sendLocked(s, m)
		}
	}
}

func (f *fakeHub) sendLocked(s protocol.SessionID, m protocol.Message) {
	switch to := f.sessions[s]; {
	case to == nil:
	case to.away:
		to.kept = append(to.kept, m)
	default:
		f.onSend(s, m)
	}
}

// at returns the origin of a message of a session.
func (f *fakeHub) at(session protocol.SessionID) origin.Origin {
	if session == "" { // an event of the server
		return origin.Origin{}
	}
	from := f.fakeRouter.at(session)
	from.User, _, _ = f.Here(from.User.ID)
	return from
}

// Here implements [account.Presence].
func (f *fakeHub) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user := protocol.User{ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Presence: protocol.Online}
	if f.busy[id] {
		user.Presence = protocol.Busy
	}
	here := slices.ContainsFunc(f.order, func(s protocol.SessionID) bool { return f.sessions[s].user == id })
	return user, f.prefers[id], here
}

// Shown implements [Router].
func (*fakeHub) Shown(protocol.UserID, time.Time) []string { return nil }

// SetBusy implements [Router].
func (f *fakeHub) SetBusy(id protocol.UserID, busy bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy[id] = busy
}

func (f *fakeHub) says(session protocol.SessionID, m protocol.Message) {
	if prefer, ok := m.(*protocol.Prefer); ok { // the hub handles it
		f.mu.Lock()
		defer f.mu.Unlock()
		f.prefers[userOf(session)] = *prefer
		return
	}
	if err := f.board.HandleMessage(f.at(session), m); err != nil {
		f.SendSession(session, err)
	}
}

// happens tells the switchboard of an event of a session as hub.Hub does.
func (f *fakeHub) happens(t failer, s transcriptStep) {
	t.Helper()
	from := f.at(s.Session)
	switch s.Happens {
	case "opens":
		f.open(s.Session)
		f.board.SessionOpened(from)
	case "connection lost":
		f.away(s.Session)
		f.board.ConnectionLost(from)
	case "connection back":
		f.back(s.Session)
		f.board.ConnectionBack(from)
	case "page closed":
		f.away(s.Session)
		f.board.PageClosed(from)
	case "reloads":
		f.open(s.Session)
		f.board.SessionTakenOver(s.Of, from)
		f.end(s.Of)
		f.board.SessionOpened(from)
	case "comes anew":
		f.end(s.Of)
		f.open(s.Session)
		f.board.SessionOpened(from)
	case "server stops":
		f.board.Close()
	case "server lost":
		f.restart(t, "secret")
	case "server replaced":
		f.restart(t, "another secret")
	default:
		t.Fatalf("unknown event %q", s.Happens)
	}
}

func (f *fakeHub) open(s protocol.SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[s] = &fakeSession{user: userOf(s)}
	f.order = append(f.order, s)
}

func (f *fakeHub) away(s protocol.SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[s].away = true
}

func (f *fakeHub) back(s protocol.SessionID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	session := f.sessions[s]
	session.away = false
	for _, m := range session.kept {
		f.sendLocked(s, m)
	}
	session.kept = nil
}

// end ends a session, if it exists.
func (f *fakeHub) end(s protocol.SessionID) {
	f.mu.Lock()
	there := f.sessions[s] != nil
	delete(f.sessions, s)
	f.order = slices.DeleteFunc(f.order, func(each protocol.SessionID) bool { return each == s })
	f.mu.Unlock()
	if there {
		f.board.SessionEnded(f.at(s))
	}
}
