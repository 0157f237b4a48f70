package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// fakeConn is a [Conn] that keeps the frames sent to its client.
type fakeConn struct {
	mu     sync.Mutex
	frames []string
	told   []*protocol.PresenceChange // of the frames that got has taken
	code   protocol.CloseCode
	stuck  chan struct{} // while not nil, Send blocks until it is closed
}

func (c *fakeConn) Send(frame []byte) error {
	c.mu.Lock()
	stuck := c.stuck
	c.mu.Unlock()
	if stuck != nil {
		<-stuck
		return errors.New("stuck")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = append(c.frames, string(frame))
	return nil
}

func (c *fakeConn) Address() netip.Addr { return netip.MustParseAddr("192.0.2.7") }

func (c *fakeConn) Close(code protocol.CloseCode, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code == 0 {
		c.code = code
		if c.stuck != nil {
			close(c.stuck)
		}
	}
}

// fakeTryConn also implements [TrySender]. It takes every frame at once unless it is full.
type fakeTryConn struct {
	fakeConn
	full bool // guarded by mu
	sent int  // how often Send was called; guarded by mu
}

func (c *fakeTryConn) TrySend(frame []byte) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full {
		return false, nil
	}
	c.frames = append(c.frames, string(frame))
	return true, nil
}

func (c *fakeTryConn) Send(frame []byte) error {
	c.mu.Lock()
	c.sent++
	c.mu.Unlock()
	return c.fakeConn.Send(frame)
}

// got are the types of the messages since the last time, with their numbers.
func (c *fakeConn) got(t *testing.T) []string {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var words []string
	for _, f := range c.frames {
		m, env, err := protocol.Decode([]byte(f))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		word := m.Type()
		switch m := m.(type) {
		case *protocol.PresenceChange:
			c.told = append(c.told, m)
			word = ""
			for _, u := range slices.SortedFunc(slices.Values(m.Users), func(a, b protocol.User) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
				word += fmt.Sprint(u.ID, " ", u.Presence, ";")
			}
		case *protocol.Error:
			word = strings.TrimSpace(fmt.Sprint(m.Code, " ", m.Ref, m.Call))
		}
		if env.Seq != 0 {
			word = fmt.Sprint(env.Seq, " ", word)
		}
		words = append(words, word)
	}
	c.frames = nil
	return words
}

// presences are the messages about presence that got has taken since the last time.
func (c *fakeConn) presences() []*protocol.PresenceChange {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.told
	c.told = nil
	return told
}

func (c *fakeConn) closed() protocol.CloseCode {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

func (c *fakeConn) welcome(t *testing.T) *protocol.Welcome {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == 0 {
		t.Fatal("no welcome")
	}
	m, _, err := protocol.Decode([]byte(c.frames[0]))
	welcome, ok := m.(*protocol.Welcome)
	if !ok {
		t.Fatalf("first frame: %s, %v", c.frames[0], err)
	}
	return welcome
}

// fakeHandler is a [Handler] that notes its calls.
type fakeHandler struct {
	mu    sync.Mutex
	heard []string
}

func (f *fakeHandler) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, fmt.Sprintf(format, args...))
}

func (f *fakeHandler) since() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	heard := f.heard
	f.heard = nil
	return heard
}

func (f *fakeHandler) HandleMessage(from origin.Origin, m protocol.Message) *protocol.Error {
	if h, ok := m.(*protocol.Hangup); ok && h.Call == "panic" {
		panic("as asked")
	} else if ok && h.Call == "refuse" {
		return protocol.Errorf(protocol.CodeUnknownCall, "as asked")
	}
	f.note("%s: %s", from.User.Name, m.Type())
	return nil
}
func (f *fakeHandler) SessionOpened(o origin.Origin) { f.note("%s opened", o.User.ID) }
func (f *fakeHandler) SessionTakenOver(_ protocol.SessionID, o origin.Origin) {
	f.note("%s taken over", o.User.ID)
}
func (f *fakeHandler) PageClosed(o origin.Origin)     { f.note("%s closed", o.User.ID) }
func (f *fakeHandler) ConnectionLost(o origin.Origin) { f.note("%s lost", o.User.ID) }
func (f *fakeHandler) ConnectionBack(o origin.Origin) { f.note("%s back", o.User.ID) }
func (f *fakeHandler) SessionEnded(o origin.Origin)   { f.note("%s ended", o.User.ID) }
func (f *fakeHandler) PageHidden(o origin.Origin)     { f.note("%s hidden", o.User.ID) }
func (f *fakeHandler) SignedOut(u protocol.UserID)    { f.note("%s signed out", u) }

// start is a running hub in a bubble, stopped at the test's end.
func start(t *testing.T) (*Hub, *fakeHandler) {
	d := new(fakeHandler)
	h, err := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h.Handle(d)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = h.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return h, d
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// come attaches a user named as their id.
func come(t *testing.T, h *Hub, id string, hello protocol.Hello) (*Line, *fakeConn) {
	t.Helper()
	w := new(fakeConn)
	hello.Presence = true
	l, refused := h.Attach(w, protocol.User{ID: protocol.UserID(id), Name: id}, "token", &hello)
	if refused != nil {
		t.Fatal(refused)
	}
	return l, w
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func bubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, f)
}

func TestPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		_, ann := come(t, h, "ann", protocol.Hello{})
		bobLine, bob := come(t, h, "bob", protocol.Hello{})
		if got := bob.welcome(t).Users; len(got) != 1 || got[0].Name != "ann" || got[0].Presence != protocol.Online {
			t.Errorf("users in Bob's welcome: %v", got)
		}
		pass(presencePeriod)
		expect(t, ann.got(t), "welcome", "ann online;bob online;")
		h.SetBusy("bob", true)
		h.SetBusy("bob", true)
		pass(2 * presenceDelay)
		expect(t, ann.got(t), "bob busy;")
		h.SetBusy("bob", false)
		pass(presencePeriod)
		expect(t, ann.got(t), "bob online;")

		bobLine.Lost()
		pass(2 * time.Second)
		expect(t, ann.got(t))
		again, _ := come(t, h, "bob", protocol.Hello{Resume: bobLine.Resume()})
		pass(10 * time.Second)
		expect(t, ann.got(t)) // back in time: nobody noticed
		again.Lost()
		pass(5 * time.Second)
		expect(t, ann.got(t), "bob offline;")
		if _, _, here := h.Here("bob"); !here {
			t.Error("a session within its resume window is gone")
		}
		pass(2 * time.Minute)
		if _, _, here := h.Here("bob"); here {
			t.Error("the resume window never ends")
		}
		expect(t, d.since(), "ann opened", "bob opened", "bob lost", "bob back", "bob lost", "ann lost", "ann ended", "bob ended")
	})
}

func TestWhoDoesNotAskIsToldNoPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		line, _ := come(t, h, "ann", protocol.Hello{})
		w := new(fakeConn)
		if _, refused := h.Attach(w, protocol.User{ID: "ann", Name: "ann"}, "", &protocol.Hello{Resume: line.Resume()}); refused != nil {
			t.Fatal(refused)
		}
		come(t, h, "bob", protocol.Hello{})
		expect(t, w.got(t), "welcome")
	})
}

func TestLeavingIsSeenAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		_, ann := come(t, h, "ann", protocol.Hello{})
		one, _ := come(t, h, "bob", protocol.Hello{})
		two, _ := come(t, h, "bob", protocol.Hello{})
		pass(2 * presencePeriod)
		ann.got(t)
		one.Left()
		pass(2 * presencePeriod)
		expect(t, ann.got(t))
		two.Left()
		two.Lost() // late news of a line that is done
		pass(2 * presenceDelay)
		expect(t, ann.got(t), "bob offline;")
		expect(t, d.since(), "ann opened", "bob opened", "bob opened", "bob ended", "bob ended")
	})
}

func TestResumeReplaysWithoutLossOrDoubling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		line, w := come(t, h, "ann", protocol.Hello{})
		id, resume := line.Session(), line.Resume()
		for range 3 {
			h.SendSession(id, &protocol.Hangup{Call: "c"})
		}
		expect(t, w.got(t), "welcome", "1 hangup", "2 hangup", "3 hangup")
		line.Receive([]byte(`{"seq":1,"type":"accept","call":"c"}`))
		line.Receive([]byte(`{"seq":2,"type":"hangup","call":"c"}`))
		line.Lost()
		h.SendSession(id, &protocol.Hangup{Call: "c"})

		line, w = come(t, h, "ann", protocol.Hello{Resume: resume, Received: 2})
		if got := w.welcome(t); !got.Resumed || got.Session != id || got.Received != 2 {
			t.Errorf("welcome: %+v", got)
		}
		expect(t, w.got(t), "welcome", "3 hangup", "4 hangup")
		line.Receive([]byte(`{"seq":2,"type":"hangup","call":"c"}`)) // doubled
		line.Receive([]byte(`{"seq":3,"type":"ringing","call":"c"}`))
		expect(t, d.since(), "ann opened", "ann: accept", "ann: hangup", "ann lost", "ann back", "ann: ringing")

		// Unknown, foreign and outlived sessions begin anew.
		for name, hello := range map[string]protocol.Hello{
			"unknown":         {Resume: "nobody's"},
			"from the future": {Resume: resume, Received: 99},
		} {
			_, w := come(t, h, "ann", hello)
			if got := w.welcome(t); got.Resumed || got.Session == id {
				t.Errorf("%s: resumed", name)
			}
		}
		eve, w := come(t, h, "eve", protocol.Hello{Resume: line.Resume()})
		if w.welcome(t).Resumed || eve.Session() == id {
			t.Error("Eve resumed Ann's session")
		}
	})
}

// TestARingThatIsOverIsNotSentLater: a client that was away while somebody rang and gave
// up hears of the end alone; what still rings, rings.
func TestARingThatIsOverIsNotSentLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		line, w := come(t, h, "ann", protocol.Hello{})
		h.SendUser("ann", "", &protocol.Ring{Call: "heard", From: &protocol.User{ID: "bob"}})
		expect(t, w.got(t), "welcome", "1 ring")
		line.Lost()
		h.SendUser("ann", "", &protocol.Ended{Call: "heard", Reason: protocol.ReasonCanceled})
		h.SendUser("ann", "", &protocol.Ring{Call: "canceled", From: &protocol.User{ID: "bob"}})
		h.SendUser("ann", "", &protocol.Ring{Call: "taken", From: &protocol.User{ID: "bob"}})
		h.SendUser("ann", "", &protocol.Ring{Call: "rings", From: &protocol.User{ID: "bob"}})
		h.SendUser("ann", "", &protocol.Ended{Call: "canceled", Reason: protocol.ReasonCanceled})
		h.SendSession(line.Session(), &protocol.Elsewhere{Call: "taken", Act: protocol.ActAccepted})
		line, w = come(t, h, "ann", protocol.Hello{Resume: line.Resume(), Received: 1})
		expect(t, w.got(t), "welcome", "2 ended", "5 ring", "6 ended", "7 elsewhere")
		h.SendUser("ann", "", &protocol.Ended{Call: "rings", Reason: protocol.ReasonCanceled})
		expect(t, w.got(t), "8 ended")
		line.Receive([]byte(`{"type":"pong","ack":8}`))
		if h.kept != 0 || line.session.bytes != 0 || line.session.rings != nil {
			t.Errorf("%d and %d bytes, rings %v are kept of what was acknowledged", h.kept, line.session.bytes, line.session.rings)
		}
	})
}

func TestAckForgets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		line, _ := come(t, h, "ann", protocol.Hello{})
		for range 10 {
			h.SendSession(line.Session(), &protocol.Hangup{Call: "c"})
		}
		for _, step := range []struct{ ack, kept int }{{99, 10}, {4, 6}, {2, 6}, {10, 0}, {10, 0}} {
			line.Receive(fmt.Appendf(nil, `{"type":"pong","ack":%d}`, step.ack))
			if got := len(line.session.kept); got != step.kept {
				t.Errorf("after ack %d: %d kept, want %d", step.ack, got, step.kept)
			}
		}
	})
}

func TestTheNewConnectionReplacesTheOld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		old, oldWire := come(t, h, "ann", protocol.Hello{})
		_, _ = come(t, h, "ann", protocol.Hello{Resume: old.Resume()})
		if got := oldWire.closed(); got != protocol.CloseReplaced {
			t.Errorf("old connection closed with %d, want %d", got, protocol.CloseReplaced)
		}
		old.Receive([]byte(`{"seq":1,"type":"accept","call":"c"}`))
		old.Lost()
		expect(t, d.since(), "ann opened", "ann back")
	})
}

func TestASlowClientLosesItsConnectionOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		_, bob := come(t, h, "bob", protocol.Hello{})
		line, w := come(t, h, "ann", protocol.Hello{})
		synctest.Wait()
		w.mu.Lock()
		w.stuck = make(chan struct{})
		w.mu.Unlock()
		for range 2*maxKept + 2 {
			h.SendSession(line.Session(), &protocol.Hangup{Call: "c"})
			synctest.Wait()
		}
		if got := w.closed(); got != protocol.CloseSlow {
			t.Errorf("closed with %d, want %d", got, protocol.CloseSlow)
		}
		if got := len(line.session.kept); got > maxKept {
			t.Errorf("%d messages kept", got)
		}
		expect(t, d.since(), "bob opened", "ann opened", "ann lost")
		if got := bob.closed(); got != 0 {
			t.Errorf("Bob's connection closed with %d", got)
		}
	})
}

func TestTheSenderWritesWhatTheConnectionTakesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		w := new(fakeTryConn)
		line, refused := h.Attach(w, protocol.User{ID: "ann", Name: "ann"}, "", &protocol.Hello{})
		if refused != nil {
			t.Fatal(refused)
		}
		send := func() { h.SendSession(line.Session(), &protocol.Hangup{Call: "c"}) }
		set := func(full bool, stuck chan struct{}) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.full, w.stuck = full, stuck
		}
		send()
		w.mu.Lock()
		if got := len(w.frames); got != 2 {
			t.Errorf("%d frames are there when SendSession returns, want welcome and hangup", got)
		}
		w.mu.Unlock()
		expect(t, w.got(t), "welcome", "1 hangup")

		// A full one is written to by a goroutine, and by nobody else meanwhile.
		stuck := make(chan struct{})
		set(true, stuck)
		send()
		synctest.Wait()
		set(false, stuck)
		send()
		expect(t, w.got(t))
		if w.sent != 1 {
			t.Errorf("Send was called %d times, want once", w.sent)
		}
		set(false, nil)
		close(stuck) // that Send fails: the session goes on with another connection
		synctest.Wait()
		if got := w.closed(); got != protocol.CloseSlow {
			t.Errorf("closed with %d, want %d", got, protocol.CloseSlow)
		}
		again := new(fakeTryConn)
		again.full = true
		if _, refused = h.Attach(again, protocol.User{ID: "ann", Name: "ann"}, "", &protocol.Hello{Resume: line.Resume(), Received: 1}); refused != nil {
			t.Fatal(refused)
		}
		send()
		synctest.Wait()
		again.mu.Lock()
		again.full = false
		again.mu.Unlock()
		send()
		expect(t, again.got(t), "welcome", "2 hangup", "3 hangup", "4 hangup", "5 hangup")
		expect(t, d.since(), "ann opened", "ann lost", "ann back")
	})
}

func TestBadInputIsOneSessionsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		_, bob := come(t, h, "bob", protocol.Hello{})
		line, w := come(t, h, "ann", protocol.Hello{})
		for _, frame := range []string{`{`, `{"type":"dance"}`, `{"seq":1,"type":"ring"}`, `{"type":"hello","version":1}`} {
			line.Receive([]byte(frame))
		}
		expect(t, w.got(t), "welcome", "1 bad_message", "2 unknown_type", "3 bad_message", "4 wrong_state")
		line.Receive([]byte(`{"type":"hello","version":1,"ref":"7"}`))
		expect(t, w.got(t), "5 wrong_state 7")
		for range 2 * maxBad {
			line.Receive([]byte(`garbage`))
		}
		if got := w.closed(); got != protocol.CloseBadMessage {
			t.Errorf("garbage for ever: closed with %d, want %d", got, protocol.CloseBadMessage)
		}

		line, w = come(t, h, "cy", protocol.Hello{})
		line.Receive([]byte(`{"type":"hangup","call":"panic"}`))
		if got := w.closed(); got != protocol.CloseInternal {
			t.Errorf("a panic: closed with %d, want %d", got, protocol.CloseInternal)
		}

		line, w = come(t, h, "dee", protocol.Hello{})
		for i := range burst + maxOver + 1 {
			line.Receive(fmt.Appendf(nil, `{"seq":%d,"type":"accept","call":"c"}`, i+1))
		}
		if got := w.closed(); got != protocol.CloseFlood {
			t.Errorf("a flood: closed with %d, want %d", got, protocol.CloseFlood)
		}
		handled := 0
		for _, heard := range d.since() {
			if heard == "dee: accept" {
				handled++
			}
		}
		if handled != burst {
			t.Errorf("%d messages of a flood were handled, want %d", handled, burst)
		}
		if got := bob.closed(); got != 0 {
			t.Errorf("Bob's connection closed with %d", got)
		}
	})
}

// Each message over the limit is refused by its own name, or its sender waits for ever.
func TestEachMessageOverTheLimitIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		line, w := come(t, h, "ann", protocol.Hello{})
		for range burst {
			line.Receive([]byte(`{"type":"pong","ack":0}`))
		}
		line.Receive([]byte(`{"seq":1,"type":"ring","ref":"a","to":"bob","video":true}`))
		line.Receive([]byte(`{"seq":2,"type":"hangup","call":"c1"}`))
		line.Receive([]byte(`{"seq":3,"type":"ring","ref":"b","to":"bob","video":true}`))
		line.Receive([]byte(`{"seq":3,"type":"ring","ref":"b","to":"bob","video":true}`)) // sent again
		expect(t, w.got(t), "welcome", "1 rate_limited a", "2 rate_limited c1", "3 rate_limited b")
		if heard := d.since(); slices.Contains(heard, "ann: ring") || slices.Contains(heard, "ann: hangup") {
			t.Errorf("what was refused was acted on: %q", heard)
		}
	})
}

// A client that does not send frames of its own learns at once what was refused.
func TestSayReturnsTheRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		line, w := come(t, h, "ann", protocol.Hello{})
		expect(t, w.got(t), "welcome")
		for _, c := range []struct {
			m    protocol.Message
			code protocol.Code
		}{
			{&protocol.Hangup{Call: "c1"}, ""},
			{&protocol.Hangup{}, protocol.CodeBadMessage},
			{&protocol.Hangup{Call: "refuse"}, protocol.CodeUnknownCall},
			{&protocol.Hello{Version: protocol.Version}, protocol.CodeWrongState},
			{&protocol.Hangup{Call: "panic"}, protocol.CodeInternal},
			{&protocol.Hangup{Call: "c1"}, protocol.CodeInternal}, // the panic has ended the line
		} {
			got := protocol.Code("")
			if refused := line.Say(c.m); refused != nil {
				got = refused.Code
			}
			if got != c.code {
				t.Errorf("%s %+v: %q, want %q", c.m.Type(), c.m, got, c.code)
			}
		}
		expect(t, w.got(t))
		if heard := d.since(); !slices.Contains(heard, "ann: hangup") {
			t.Errorf("heard %q", heard)
		}

		line, w = come(t, h, "bob", protocol.Hello{})
		for range 4 * burst {
			if refused := line.Admit(0.25); refused != nil {
				t.Fatal(refused)
			}
		}
		if refused := line.Admit(0.25); refused == nil || refused.Code != protocol.CodeRateLimited {
			t.Errorf("one more: %v", refused)
		}
		for range maxOver {
			_ = line.Admit(1)
		}
		if got := w.closed(); got != protocol.CloseFlood {
			t.Errorf("a flood: closed with %d, want %d", got, protocol.CloseFlood)
		}
	})
}

// Only a user who is gone, and in no call, can be dismissed.
func TestOnlyWhoIsGoneIsDismissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		line, _ := come(t, h, "ann", protocol.Hello{})
		line2, _ := come(t, h, "ann", protocol.Hello{})
		refused := func(when string) {
			t.Helper()
			if h.Dismiss("ann") {
				t.Errorf("%s: dismissed", when)
			}
		}
		line.Lost()
		refused("one of two connections is lost")
		line2.Lost()
		refused("just lost")
		pass(presenceGrace)
		h.SetBusy("ann", true)
		refused("in a call")
		h.SetBusy("ann", false)
		d.since()
		if !h.Dismiss("ann") {
			t.Error("gone, and not dismissed")
		}
		synctest.Wait()
		if heard := d.since(); !slices.Equal(heard, []string{"ann ended", "ann ended"}) {
			t.Errorf("heard %q", heard)
		}
		if !h.Dismiss("ann") {
			t.Error("somebody without a session is not dismissed")
		}
	})
}

// Whoever signs out everywhere is gone at once, connected or not, and their clients hear why.
func TestSigningOutEndsAllSessionsOfAUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		_, here := come(t, h, "ann", protocol.Hello{})
		_, there := come(t, h, "ann", protocol.Hello{})
		line, away := come(t, h, "ann", protocol.Hello{})
		_, bob := come(t, h, "bob", protocol.Hello{})
		resume := away.welcome(t).Resume
		line.Lost()
		h.SetBusy("ann", true)
		d.since()
		h.SignOut("unobody")
		h.SignOut("ann")
		if heard := d.since(); !slices.Equal(heard, []string{"unobody signed out", "ann ended", "ann ended", "ann ended", "ann signed out"}) {
			t.Errorf("heard %q", heard)
		}
		if here.closed() != protocol.CloseSignedOut || there.closed() != protocol.CloseSignedOut || bob.closed() != 0 {
			t.Errorf("closed with %d, %d and Bob's with %d", here.closed(), there.closed(), bob.closed())
		}
		if _, _, ok := h.Here("ann"); ok {
			t.Error("Ann is here")
		}
		if _, w := come(t, h, "ann", protocol.Hello{Resume: resume}); w.welcome(t).Resumed {
			t.Error("a session is taken up again")
		}
	})
}

func TestStopTellsEveryone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, err := New(Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		h.Handle(new(fakeHandler))
		_, w := come(t, h, "ann", protocol.Hello{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := h.Run(ctx); err != nil {
			t.Fatal(err)
		}
		expect(t, w.got(t), "welcome", "1 restarting")
		if got := w.closed(); got != protocol.CloseRestarting {
			t.Errorf("closed with %d, want %d", got, protocol.CloseRestarting)
		}
		if _, refused := h.Attach(new(fakeConn), protocol.User{ID: "bob"}, "", &protocol.Hello{}); refused == nil || refused.Code != protocol.CodeRestarting {
			t.Errorf("hello after a stop: %v", refused)
		}
	})
}

func TestSessionsOfAUserAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		var lines []*Line
		for range maxUserSessions {
			l, _ := come(t, h, "ann", protocol.Hello{})
			lines = append(lines, l)
		}
		if _, refused := h.Attach(new(fakeConn), protocol.User{ID: "ann"}, "", &protocol.Hello{}); refused == nil || refused.Code != protocol.CodeFull {
			t.Errorf("one more: %v", refused)
		}
		lines[3].Lost()
		come(t, h, "ann", protocol.Hello{}) // takes the place of the lost one
	})
}

// TestStorm lets many clients come, go, resume and talk at once; the race
// detector watches, and at the end everything must be gone.
func TestStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				id := fmt.Sprint("u", i%7)
				hello := protocol.Hello{Presence: true}
				for n := range 50 {
					var conn Conn = new(fakeConn)
					if n%2 == 0 {
						conn = new(fakeTryConn)
					}
					l, refused := h.Attach(conn, protocol.User{ID: protocol.UserID(id), Name: id}, "", &hello)
					if refused != nil {
						continue
					}
					l.Receive([]byte(`{"type":"accept","call":"c"}`))
					h.SendUser("u1", l.Session(), &protocol.Hangup{Call: "c"})
					h.SetBusy(protocol.UserID(id), n%2 == 0)
					if n%3 == 0 {
						l.Left()
						hello.Resume = ""
						continue
					}
					l.Lost()
					hello.Resume, hello.Received = l.Resume(), 0
				}
			})
		}
		wg.Wait()
		pass(3 * time.Minute)
		if sessions, connected := h.count(); sessions != 0 || connected != 0 {
			t.Errorf("%d sessions, %d connections left", sessions, connected)
		}
		if len(h.users) != 0 || len(h.byResume) != 0 || len(h.watchers) != 0 {
			t.Errorf("%d users, %d resume tokens, %d watchers left", len(h.users), len(h.byResume), len(h.watchers))
		}
		if lines := slices.Concat(h.rounds.groups...); len(lines) != 0 || h.away.len() != 0 {
			t.Errorf("%d lines to be pinged, %d who are away left", len(lines), h.away.len())
		}
	})
}

// panickingHandler is a fakeHandler that panics when a session has ended.
type panickingHandler struct{ fakeHandler }

func (p *panickingHandler) SessionEnded(o origin.Origin) {
	p.fakeHandler.SessionEnded(o)
	panic("as asked")
}

func TestAPanicOfTheHandlerIsItsOwn(t *testing.T) {
	h, err := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	handler := new(panickingHandler)
	h.Handle(handler)
	l, _ := come(t, h, "ann", protocol.Hello{})
	l.Left()
	if _, _, here := h.Here("ann"); here {
		t.Error("Ann is still here")
	}
	if got := handler.heard; !strings.Contains(strings.Join(got, " "), "ann ended") {
		t.Errorf("heard %v", got)
	}
}

// forwardingHandler forwards each message to one session.
type forwardingHandler struct {
	fakeHandler
	hub *Hub
	to  protocol.SessionID
}

func (f *forwardingHandler) HandleMessage(_ origin.Origin, m protocol.Message) *protocol.Error {
	f.hub.SendSession(f.to, m)
	return nil
}

// discardConn is a [TrySender] that discards what it is sent.
type discardConn struct{}

func (discardConn) Send([]byte) error                { return nil }
func (discardConn) TrySend([]byte) (bool, error)     { return true, nil }
func (discardConn) Close(protocol.CloseCode, string) {}
func (discardConn) Address() netip.Addr              { return netip.Addr{} }

func BenchmarkRelay(b *testing.B) {
	e := new(forwardingHandler)
	h, err := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	e.hub = h
	h.Handle(e)
	ann, refused := h.Attach(discardConn{}, protocol.User{ID: "ann"}, "", &protocol.Hello{})
	bob, refused2 := h.Attach(discardConn{}, protocol.User{ID: "bob"}, "", &protocol.Hello{})
	if refused != nil || refused2 != nil {
		b.Fatal(refused, refused2)
	}
	e.to = bob.Session()
	frame := []byte(`{"type":"candidate","call":"n1-x2kq","candidates":[{"candidate":"candidate:1 1 udp 2113937151 192.0.2.1 54321 typ host",` +
		`"sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}]}`)
	b.ReportAllocs()
	for b.Loop() {
		ann.bucket.tokens = burst
		ann.Receive(frame)
		h.mu.Lock()
		h.forgetLocked(bob.session, bob.session.seq)
		h.mu.Unlock()
	}
}
