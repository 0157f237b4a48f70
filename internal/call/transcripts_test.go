package call

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

// transcript is a whole call as all its sessions see it; the README beside the
// files says what each field means. The SDK's tests play the sessions of the same
// files, against a server that says what stands there.
type transcript struct {
	About    string               `json:"about"`
	Early    bool                 `json:"early,omitempty"`
	Sessions []protocol.SessionID `json:"sessions"` // those that are there from the start
	Steps    []moment             `json:"steps"`
	Records  []recorded           `json:"records"`
}

// moment is one step of a transcript.
type moment struct {
	Session protocol.SessionID `json:"session,omitempty"`
	Does    json.RawMessage    `json:"does,omitempty"` // the SDK's affair
	Sends   json.RawMessage    `json:"sends,omitempty"`
	Hears   json.RawMessage    `json:"hears,omitempty"`
	Happens string             `json:"happens,omitempty"`
	Of      protocol.SessionID `json:"of,omitempty"`
	PassMs  int64              `json:"passMs,omitempty"`
	// What the SDK makes of it.
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
	Code   string `json:"code,omitempty"`
}

// recorded is one record of a transcript's calls.
type recorded struct {
	Call       string             `json:"call"`
	Caller     protocol.UserID    `json:"caller"`
	Callee     protocol.UserID    `json:"callee"`
	Reason     protocol.EndReason `json:"reason"`
	DurationMs int64              `json:"durationMs"`
}

// text is the transcript as its file has it: one line for each step.
func (tr *transcript) text(t *testing.T) string {
	t.Helper()
	line := func(v any) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  \"about\": %s,\n", line(tr.About))
	if tr.Early {
		b.WriteString("  \"early\": true,\n")
	}
	fmt.Fprintf(&b, "  \"sessions\": %s,\n  \"steps\": [", line(tr.Sessions))
	for i, s := range tr.Steps {
		b.WriteString(strings.Repeat(",", min(i, 1)) + "\n    " + line(s))
	}
	b.WriteString("\n  ],\n  \"records\": [")
	for i, r := range tr.Records {
		b.WriteString(strings.Repeat(",", min(i, 1)) + "\n    " + line(r))
	}
	b.WriteString("\n  ]\n}\n")
	return b.String()
}

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
	early bool
	board *Switchboard

	sessions map[protocol.SessionID]*townSession // guarded by house.mu, as all below
	order    []protocol.SessionID                // as they came
	prefers  map[protocol.UserID]protocol.Prefer
	busy     map[protocol.UserID]bool
	heard    []moment
	// names are what a file calls the call ids and tickets of this run.
	names  map[string]string
	counts map[string]int
}

func newTown(t *testing.T, early bool) *town {
	w := &town{early: early, names: map[string]string{}, counts: map[string]int{}}
	w.restart(t, "secret")
	return w
}

// restart is a server that knows nothing but the records and a secret.
func (w *town) restart(t *testing.T, secret string) {
	t.Helper()
	w.mu.Lock()
	w.sessions, w.order = map[protocol.SessionID]*townSession{}, nil
	w.prefers, w.busy = map[protocol.UserID]protocol.Prefer{}, map[protocol.UserID]bool{}
	w.mu.Unlock()
	board, err := New(Config{
		Router: w, Recorder: w, Secret: []byte(secret), EarlyAnswers: w.early, Log: slog.New(slog.DiscardHandler),
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
		w.heard = append(w.heard, moment{Session: s, Hears: w.writeLocked(m)})
	}
}

// User implements [Router].
func (w *town) User(id protocol.UserID) (protocol.User, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	user := protocol.User{ID: id, Name: strings.ToUpper(string(id[:1])) + string(id[1:]), Presence: protocol.Online}
	if w.busy[id] {
		user.Presence = protocol.Busy
	}
	here := slices.ContainsFunc(w.order, func(s protocol.SessionID) bool { return w.sessions[s].user == id })
	return user, here
}

// Prefers implements [Router].
func (w *town) Prefers(id protocol.UserID) protocol.Prefer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.prefers[id]
}

// SetBusy implements [Router].
func (w *town) SetBusy(id protocol.UserID, busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[id] = busy
}

// fileSDP stands in the files for any description, transcriptSDP for it in the
// server: one that passes its checks.
const (
	fileSDP       = `"sdp":"SDP"`
	transcriptSDP = `"sdp":"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AB:CD\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"`
)

// writeLocked is a message of the server as a file has it.
func (w *town) writeLocked(m protocol.Message) json.RawMessage {
	switch m := m.(type) {
	case *protocol.Calling:
		w.nameLocked("call", string(m.Call))
	case *protocol.Ring:
		w.nameLocked("call", string(m.Call))
	case *protocol.Ended:
		w.nameLocked("call", string(m.Next))
	case *protocol.Accept:
		w.nameLocked("ticket", m.Ticket)
	case *protocol.Merged:
		w.nameLocked("ticket", m.Ticket)
	case *protocol.Rejoin:
		w.nameLocked("call", string(m.Call))
		w.nameLocked("ticket", m.Ticket)
	}
	text := string(protocol.Encode(m))
	for real, name := range w.names {
		text = strings.ReplaceAll(text, `"`+real+`"`, `"`+name+`"`)
	}
	return json.RawMessage(strings.ReplaceAll(text, transcriptSDP, fileSDP))
}

// nameLocked gives what is new a name: call1, call2, ticket1 …
func (w *town) nameLocked(kind, real string) {
	if real == "" || w.names[real] != "" {
		return
	}
	w.counts[kind]++
	w.names[real] = fmt.Sprint(kind, w.counts[kind])
}

// read is a message of a client from a file; it must say nothing that the server
// would not read.
func (w *town) read(t *testing.T, written json.RawMessage) protocol.Message {
	t.Helper()
	text := strings.ReplaceAll(string(written), fileSDP, transcriptSDP)
	w.mu.Lock()
	for real, name := range w.names {
		text = strings.ReplaceAll(text, `"`+name+`"`, `"`+real+`"`)
	}
	w.mu.Unlock()
	m, _, err := protocol.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	var sent, understood any
	for v, from := range map[*any][]byte{&sent: []byte(text), &understood: protocol.Encode(m)} {
		if err := json.Unmarshal(from, v); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(sent, understood); diff != "" {
		t.Errorf("%s is not what the server understands (-sent +understood):\n%s", written, diff)
	}
	return m
}

// play does a step that is not a hearing.
func (w *town) play(t *testing.T, s moment) {
	t.Helper()
	switch {
	case s.PassMs > 0:
		pass(protocol.Duration(s.PassMs))
	case s.Sends != nil:
		w.says(s.Session, w.read(t, s.Sends))
	case s.Happens != "":
		w.happens(t, s)
	}
	synctest.Wait()
}

func (w *town) says(session protocol.SessionID, m protocol.Message) {
	user := userOf(session)
	if p, ok := m.(*protocol.Prefer); ok { // the hub's own
		w.mu.Lock()
		defer w.mu.Unlock()
		w.prefers[user] = *p
		return
	}
	from, _ := w.User(user)
	if err := w.board.HandleMessage(session, from, m); err != nil {
		w.SendSession(session, err)
	}
}

// happens tells the switchboard news of a session as hub.Hub does.
func (w *town) happens(t *testing.T, s moment) {
	t.Helper()
	user := userOf(s.Session)
	switch s.Happens {
	case "opens":
		w.open(s.Session)
		w.board.SessionOpened(s.Session, user)
	case "connection lost":
		w.away(s.Session)
		w.board.ConnectionLost(s.Session, user)
	case "connection back":
		w.back(s.Session)
		w.board.ConnectionBack(s.Session, user)
	case "page closed":
		w.away(s.Session)
		w.board.PageClosed(s.Session, user)
	case "reloads":
		w.open(s.Session)
		w.board.SessionTakenOver(s.Of, s.Session, user)
		w.end(s.Of)
		w.board.SessionOpened(s.Session, user)
	case "comes anew":
		w.end(s.Of)
		w.open(s.Session)
		w.board.SessionOpened(s.Session, user)
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
		w.board.SessionEnded(s, userOf(s))
	}
}

// since are the hearings since it was last asked.
func (w *town) since() []moment {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := w.heard
	w.heard = nil
	return heard
}

func (w *town) recorded() []recorded {
	all := []recorded{}
	for _, r := range w.ended() {
		all = append(all, recorded{w.names[string(r.Call)], r.Caller.ID, r.Callee.ID, r.Reason, r.Duration().Milliseconds()})
	}
	return all
}

// replayed is the transcript as this server makes it: what the sessions do from
// the file, what they hear from the switchboard. What the SDK makes of a hearing is kept.
func (tr *transcript) replayed(t *testing.T) *transcript {
	w := newTown(t, tr.Early)
	for _, s := range tr.Sessions {
		w.open(s)
	}
	again := &transcript{About: tr.About, Early: tr.Early, Sessions: tr.Sessions}
	for i := 0; i < len(tr.Steps); {
		act := tr.Steps[i]
		var written []moment
		if act.Hears == nil {
			i++
			w.play(t, act)
			again.Steps = append(again.Steps, act)
		}
		for ; i < len(tr.Steps) && tr.Steps[i].Hears != nil; i++ {
			written = append(written, tr.Steps[i])
		}
		for _, heard := range w.since() {
			for j, old := range written {
				if old.Session == heard.Session && typeOf(old.Hears) == typeOf(heard.Hears) {
					heard.State, heard.Reason, heard.By, heard.Code = old.State, old.Reason, old.By, old.Code
					written = slices.Delete(written, j, j+1)
					break
				}
			}
			again.Steps = append(again.Steps, heard)
		}
	}
	again.Records = w.recorded()
	return again
}

func typeOf(m json.RawMessage) string {
	var env protocol.Envelope
	_ = json.Unmarshal(m, &env)
	return env.Type
}

// TestTranscripts plays what each session sends, in calls from ring to end, and
// compares all that they hear; go test ./internal/call -run TestTranscripts
// -update writes that into the files.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../../protocol/testdata/calls/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there are no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			written, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := json.NewDecoder(bytes.NewReader(written))
			d.DisallowUnknownFields()
			tr := new(transcript)
			if err := d.Decode(tr); err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) {
				got = tr.replayed(t).text(t)
			})
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(written), "\n")
			if diff := cmp.Diff(want, strings.Split(got, "\n")); diff != "" {
				t.Errorf("the server plays it another way (-file +server); -update writes it:\n%s", diff)
			}
		})
	}
}
