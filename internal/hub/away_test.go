package hub

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

// A session whose user was in a call waits two minutes, any other for seconds: 100,000 that came and went must not hold
// 100,000 places.
func TestWhoWasInNoCallIsRememberedForSeconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		stranger, _ := come(t, h, "stranger", protocol.Hello{})
		caller, _ := come(t, h, "caller", protocol.Hello{})
		later, _ := come(t, h, "later", protocol.Hello{})
		h.SetBusy("caller", true)
		h.SetBusy("caller", false)
		for _, l := range []*Line{stranger, caller, later} {
			l.Lost()
		}
		h.SetBusy("later", true) // is in a call while away, as one who is rung by push
		pass(briefResume - 2*time.Second)
		if _, _, here := h.Here("stranger"); !here {
			t.Errorf("a session that was in no call is gone within %s", briefResume)
		}
		pass(4 * time.Second)
		if _, _, here := h.Here("stranger"); here {
			t.Errorf("a session that was in no call waits for more than %s", briefResume)
		}
		pass(time.Minute)
		for _, id := range []protocol.UserID{"caller", "later"} {
			if _, _, here := h.Here(id); !here {
				t.Errorf("the session of %s, who was in a call, is gone within its resume time", id)
			}
		}
		pass(time.Minute)
		for _, id := range []protocol.UserID{"caller", "later"} {
			if _, _, here := h.Here(id); here {
				t.Errorf("the session of %s waits for more than its resume time", id)
			}
		}
	})
}

func TestSessionsThatAreAwayGiveWayToNewcomers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		h.cfg.MaxSessions = 3
		talking, _ := come(t, h, "talking", protocol.Hello{})
		called, _ := come(t, h, "called", protocol.Hello{})
		stranger, _ := come(t, h, "stranger", protocol.Hello{})
		h.SetBusy("talking", true)
		h.SetBusy("called", true)
		h.SetBusy("called", false)
		talking.Lost()
		called.Lost()
		stranger.Lost()
		d.since()
		for i, want := range []string{"stranger ended", "called ended"} {
			come(t, h, string('a'+rune(i)), protocol.Hello{})
			if got := strings.Join(d.since(), ", "); !strings.HasPrefix(got, want) {
				t.Errorf("newcomer %d: %s, want %s", i, got, want)
			}
		}
		w := new(fakeConn)
		if _, refused := h.Attach(w, protocol.User{ID: "z"}, "", &protocol.Hello{}); refused == nil || refused.Code != protocol.CodeFull {
			t.Errorf("a newcomer took the place of somebody in a call: %v, want full", refused)
		}
	})
}

// A page that is loaded anew while the hub is full takes its own place, and no other's.
func TestTheSessionThatIsTakenOverIsNotEndedTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		h.cfg.MaxSessions = 2
		ann, _ := come(t, h, "ann", protocol.Hello{})
		bob, _ := come(t, h, "bob", protocol.Hello{})
		ann.Lost()
		bob.Lost()
		d.since()
		come(t, h, "ann", protocol.Hello{Resume: ann.Resume(), Reload: true})
		expect(t, d.since(), "bob ended", "ann taken over", "ann ended", "ann opened")
	})
}

// kept counts what is kept anew.
func kept(h *Hub) (all int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		for _, frame := range s.kept {
			all += costOf(frame)
		}
	}
	return all
}

func big(n int) protocol.Message {
	return &protocol.Error{Code: protocol.CodeInternal, Message: strings.Repeat("x", n)}
}

func TestWhatASessionDoesNotAcknowledgeIsBoundedInBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		line, w := come(t, h, "ann", protocol.Hello{})
		for range 100 {
			h.SendSession(line.Session(), big(20_000))
			w.got(t)
		}
		if got := kept(h); got > maxKeptBytes || got < maxKeptBytes-40_000 || h.kept != got {
			t.Errorf("%d bytes are kept, and %d counted, want at most and nearly %d", got, h.kept, maxKeptBytes)
		}
		if w.closed() != 0 {
			t.Errorf("a client that reads lost its connection: %d", w.closed())
		}
		line.Receive([]byte(`{"type":"pong","ack":100}`))
		if got := kept(h); got != 0 || h.kept != 0 {
			t.Errorf("%d bytes are kept after all were acknowledged, and %d counted", got, h.kept)
		}
		line.Lost()
		for range 10 {
			h.SendSession(line.Session(), big(20_000))
		}
		pass(time.Minute)
		if h.kept != 0 {
			t.Errorf("%d bytes are counted without any session", h.kept)
		}
	})
}

func TestTheBudgetOfAllSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		h.cfg.MaxKept = 400_000
		away, _ := come(t, h, "away", protocol.Hello{})
		honest, honestWire := come(t, h, "honest", protocol.Hello{})
		greedy, greedyWire := come(t, h, "greedy", protocol.Hello{})
		away.Lost()
		h.SendSession(honest.Session(), big(1000))
		for range 8 {
			h.SendSession(away.Session(), big(20_000))
		}
		for range 8 {
			h.SendSession(greedy.Session(), big(20_000))
			greedyWire.got(t)
		}
		if kept(h) < 320_000 {
			t.Fatalf("%d bytes are kept within the budget, want all", kept(h))
		}
		for range 5 {
			h.SendSession(greedy.Session(), big(20_000))
			greedyWire.got(t)
		}
		if h.sessions[away.Session()].bytes != 0 || greedyWire.closed() != 0 {
			t.Error("over the budget, the queue of a session without connection goes first")
		}
		for range 20 {
			h.SendSession(greedy.Session(), big(20_000))
			greedyWire.got(t)
		}
		if got := greedyWire.closed(); got != protocol.CloseSlow {
			t.Errorf("the session with the longest queue is closed with %d, want %d", got, protocol.CloseSlow)
		}
		if got := kept(h); got > h.cfg.MaxKept || h.kept != got {
			t.Errorf("%d bytes are kept, and %d counted, want at most %d", got, h.kept, h.cfg.MaxKept)
		}
		if honestWire.closed() != 0 || h.sessions[honest.Session()].bytes == 0 {
			t.Error("an honest session lost its connection or its queue")
		}
	})
}

func TestTicksOfManyWhoAreAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := new(fakeHandler)
		h, err := New(Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		h.Handle(d)
		for i := range 2000 {
			l, _ := h.Attach(discardConn{}, protocol.User{ID: protocol.UserID(fmt.Sprint(i))}, "", &protocol.Hello{})
			l.Lost()
		}
		h.tick(time.Now().Add(presenceGrace))
		if len(h.leaving) != 0 || h.away.len() != 2000 {
			t.Errorf("%d users are still seen, %d sessions wait, want 0 and 2000", len(h.leaving), h.away.len())
		}
		h.tick(time.Now().Add(briefResume))
		if len(h.sessions) != 0 || len(h.users) != 0 {
			t.Errorf("%d sessions and %d users are left", len(h.sessions), len(h.users))
		}
	})
}
