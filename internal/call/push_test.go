package call

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/protocol"
)

// phone is a house where bob is reached by push, whatever else, and zoe only so.
type phone struct {
	*house
	pushed []*protocol.Push // guarded by house.mu
	dnd    bool             // set before use
}

func (p *phone) User(id protocol.UserID) (protocol.User, bool) {
	u, _ := p.house.User(id)
	return u, id != "zoe" && id != "nobody"
}

func (p *phone) Reachable(id protocol.UserID) (protocol.User, bool, bool) {
	return protocol.User{ID: id, Name: "Zoe"}, p.dnd, id == "zoe"
}

func (p *phone) Push(user protocol.UserID, m *protocol.Push) {
	p.note("push %s %s", user, m.State)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushed = append(p.pushed, m)
}

// key is that of the call that was pushed first.
func (p *phone) key() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pushed[0].Key
}

func openPhone(t *testing.T) (*Switchboard, *phone) {
	p := &phone{house: new(house)}
	s, err := New(Config{Router: p, Recorder: p, Pusher: p, Secret: []byte("secret"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// pushedAs are a push's answer in a word.
func pushedAs(s *Switchboard, id protocol.CallID, key, act string) string {
	m, err := s.Pushed(id, key, act)
	if err != nil {
		return string(err.Code)
	}
	if m.State == protocol.PushRinging {
		return fmt.Sprint(m.State, " ", m.RingMs)
	}
	return string(m.State)
}

func TestACalleeWithoutAPageIsRungByPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := openPhone(t)
		s.says("ann1", &protocol.Ring{To: "zoe", Video: true})
		expect(t, p.house, "ann1 calling", "zoe* ring", "push zoe ringing", "ann busy true", "zoe busy true")
		id, m := p.lastCall(), p.pushed[0]
		if m.Call != id || m.From.ID != "ann" || m.From.Presence != "" || !m.Video || m.RingMs != 60_000 || len(m.Key) != 22 {
			t.Errorf("pushed %+v", m)
		}
		pass(5 * time.Second)
		s.PushTaken(id)
		pass(20 * time.Second)
		expect(t, p.house)
		if got := pushedAs(s, id, m.Key, "ask"); got != "ringing 35000" {
			t.Errorf("asked: %s", got)
		}
		expect(t, p.house)
		for range 2 {
			if got := pushedAs(s, id, m.Key, "ringing"); got != "ringing 35000" {
				t.Errorf("rings: %s", got)
			}
		}
		expect(t, p.house, "ann1 ringing")
		s.SessionOpened("zoe1", "zoe")
		expect(t, p.house, "zoe1 ring", "zoe busy true")
		s.says("zoe1", &protocol.Accept{Call: id})
		expect(t, p.house, "zoe1 accept", "zoe* elsewhere", "push zoe elsewhere", "ann1 accept", "zoe1 media connecting")
	})
}

func TestWhoIsRungByPush(t *testing.T) {
	tests := []struct {
		to   string
		dnd  bool
		want []string
	}{
		{"bob", false, []string{"ann1 calling", "bob* ring", "push bob ringing", "ann busy true", "bob busy true"}},
		{"zoe", true, []string{"ann1 calling", "ann1 ended busy"}},
		{"nobody", false, []string{"ann1 calling", "ann1 ended unreachable"}},
		{"dnd", false, []string{"ann1 calling", "ann1 ended busy"}},
	}
	for _, test := range tests {
		t.Run(test.to, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := openPhone(t)
				p.dnd = test.dnd
				s.says("ann1", &protocol.Ring{To: protocol.UserID(test.to)})
				expect(t, p.house, test.want...)
				s.Close()
			})
		})
	}
}

// TestWhatBecomesOfAPushedRing ends a ring in every way, and asks late.
func TestWhatBecomesOfAPushedRing(t *testing.T) {
	tests := []struct {
		name  string
		do    func(*Switchboard, *phone, protocol.CallID)
		want  protocol.PushState
		after time.Duration
	}{
		{"no push is taken", func(*Switchboard, *phone, protocol.CallID) { pass(time.Minute) }, protocol.PushMissed, 20 * time.Second},
		{"a push is taken", func(s *Switchboard, _ *phone, id protocol.CallID) {
			s.PushTaken(id)
			pass(2 * time.Minute)
		}, protocol.PushMissed, 60 * time.Second},
		{"a push is taken too late", func(s *Switchboard, _ *phone, id protocol.CallID) {
			pass(21 * time.Second)
			s.PushTaken(id)
		}, protocol.PushMissed, 20 * time.Second},
		{"a device confirms", func(s *Switchboard, p *phone, id protocol.CallID) {
			pushedAs(s, id, p.key(), "ringing")
			pass(2 * time.Minute)
		}, protocol.PushMissed, 60 * time.Second},
		{"canceled", func(s *Switchboard, _ *phone, id protocol.CallID) {
			s.says("ann1", &protocol.Hangup{Call: id})
		}, protocol.PushMissed, 0},
		{"accepted", func(s *Switchboard, _ *phone, id protocol.CallID) {
			s.says("bob1", &protocol.Accept{Call: id})
			s.says("bob1", &protocol.Hangup{Call: id})
		}, protocol.PushElsewhere, 0},
		{"declined", func(s *Switchboard, _ *phone, id protocol.CallID) {
			s.says("bob1", &protocol.Decline{Call: id})
		}, protocol.PushElsewhere, 0},
		{"declined on the notification", func(s *Switchboard, p *phone, id protocol.CallID) {
			if got := pushedAs(s, id, p.key(), "decline"); got != "elsewhere" {
				t.Errorf("declined: %s", got)
			}
		}, protocol.PushElsewhere, 0},
		{"merged", func(s *Switchboard, _ *phone, _ protocol.CallID) {
			s.says("bob1", &protocol.Ring{To: "ann"})
		}, protocol.PushElsewhere, 0},
		{"the server stops", func(s *Switchboard, _ *phone, _ protocol.CallID) { s.Close() }, protocol.PushEnded, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := openPhone(t)
				s.says("ann1", &protocol.Ring{To: "bob"})
				id := p.lastCall()
				test.do(s, p, id)
				synctest.Wait()
				if len(p.pushed) != 2 || p.pushed[1].State != test.want || p.pushed[1].Key != "" || p.pushed[1].RingMs != 0 {
					t.Fatalf("pushed %+v, want ringing, then %s", p.pushed, test.want)
				}
				if ended := p.ended(); len(ended) == 1 && ended[0].EndedAt.Sub(ended[0].RungAt) != test.after {
					t.Errorf("it ended after %v, want %v", ended[0].EndedAt.Sub(ended[0].RungAt), test.after)
				}
				records := len(p.ended())
				for _, act := range []string{"ask", "ringing", "decline"} {
					if got := pushedAs(s, id, p.key(), act); got != string(test.want) {
						t.Errorf("late %s: got %s, want %s", act, got, test.want)
					}
				}
				if len(p.pushed) != 2 || len(p.ended()) != records {
					t.Error("a late act has changed something")
				}
				s.Close()
			})
		})
	}
}

func TestAClientDoesNotPush(t *testing.T) {
	s, _ := openPhone(t)
	if got := s.says("ann1", &protocol.Push{Call: "n1-c", State: protocol.PushRinging, From: protocol.User{ID: "ann", Name: "Ann"}}); got != "unknown_type" {
		t.Errorf("got %q", got)
	}
}

func TestAKeyIsForOneCallAndItsCallee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := openPhone(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		id, key := p.lastCall(), p.key()
		s.says("cy1", &protocol.Ring{To: "nobody"}) // refused before it rang
		refused := p.lastCall()
		for _, test := range []struct {
			id       protocol.CallID
			key, act string
			want     string
		}{
			{id, key, "ask", "ringing 60000"},
			{id, key, "dance", "bad_message"},
			{id, "", "ask", "unknown_call"},
			{id, pushKey([]byte("secret"), id, "ann"), "decline", "unknown_call"},
			{id, pushKey([]byte("another"), id, "bob"), "decline", "unknown_call"},
			{"n1-other", key, "ask", "unknown_call"},
			{refused, pushKey([]byte("secret"), refused, "nobody"), "ask", "unknown_call"},
		} {
			if got := pushedAs(s, test.id, test.key, test.act); got != test.want {
				t.Errorf("%s of %s with %q: got %s, want %s", test.act, test.id, test.key, got, test.want)
			}
		}
		s.Close()
	})
}
