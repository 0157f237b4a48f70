package call

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

// fakePusher is a fakeRouter that is a [Pusher] and an [account.Devices], too. Bob has a session
// and a device. Zoe has a device only, unless her page is open. Zoe knows ann; nobody else knows anybody.
type fakePusher struct {
	*fakeRouter
	pushed   []*protocol.Push // guarded by fakeRouter.mu
	pageOpen bool             // zoe's page is open; guarded by fakeRouter.mu
	dnd      bool             // set before use
}

func (f *fakePusher) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, prefers, _ := f.fakeRouter.Here(id)
	return u, prefers, id != "nobody" && (id != "zoe" || f.pageOpen)
}

func (f *fakePusher) change(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// Reachable implements [account.Devices].
func (f *fakePusher) Reachable(id protocol.UserID) (protocol.User, bool, bool) {
	return protocol.User{ID: id, Name: "Zoe"}, f.dnd, id == "zoe"
}

// Push implements [Pusher]: the user has one device, the phone.
func (f *fakePusher) Push(user protocol.UserID, m *protocol.Push, shown ...string) {
	f.mu.Lock()
	told := slices.ContainsFunc(f.pushed, func(before *protocol.Push) bool { return before.Call == m.Call })
	f.mu.Unlock()
	if told && m.State == protocol.PushRinging || !told && slices.Contains(shown, "phone") {
		return
	}
	f.note("push %s %s", user, m.State)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pushed = append(f.pushed, m)
}

// key returns the key of the first push.
func (f *fakePusher) key() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pushed[0].Key
}

func openWithPusher(t *testing.T) (*Switchboard, *fakePusher) {
	p := &fakePusher{fakeRouter: new(fakeRouter)}
	p.knows = func(user, other protocol.UserID) bool { return user == "zoe" && other == "ann" }
	log := slog.New(slog.DiscardHandler)
	s, err := New(Config{Router: p, Directory: account.NewDirectory(p, p, p, log), Recorder: p, Pusher: p, Secret: []byte("secret"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// pushedAs returns what Pushed answers, in a word.
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
		s, p := openWithPusher(t)
		s.says("ann1", &protocol.Ring{To: "zoe", Video: true})
		expect(t, p.fakeRouter, "ann1 calling", "zoe* ring", "push zoe ringing", "ann busy true")
		id, m := p.lastCall(), p.pushed[0]
		if m.Call != id || m.From.ID != "ann" || m.From.Presence != "" || !m.Video || m.RingMs != 60_000 || len(m.Key) != 22 {
			t.Errorf("pushed %+v", m)
		}
		pass(5 * time.Second)
		s.PushTaken(id)
		pass(20 * time.Second)
		expect(t, p.fakeRouter)
		if got := pushedAs(s, id, m.Key, "ask"); got != "ringing 35000" {
			t.Errorf("asked: %s", got)
		}
		expect(t, p.fakeRouter)
		for range 2 {
			if got := pushedAs(s, id, m.Key, "ringing"); got != "ringing 35000" {
				t.Errorf("rings: %s", got)
			}
		}
		expect(t, p.fakeRouter, "ann1 ringing")
		s.SessionOpened(s.at("zoe1"))
		expect(t, p.fakeRouter, "zoe1 ring")
		s.says("zoe1", &protocol.Accept{Call: id})
		expect(t, p.fakeRouter, "zoe1 accept", "zoe* elsewhere", "push zoe elsewhere", "ann1 accept", "zoe1 media connecting", "zoe busy true")
	})
}

func TestWhoIsRungByPush(t *testing.T) {
	tests := []struct {
		from, to string
		dnd      bool
		want     []string
	}{
		{"ann1", "bob", false, []string{"ann1 calling", "bob* ring", "push bob ringing", "ann busy true"}},
		{"cy1", "bob", false, []string{"cy1 calling", "bob* ring", "push bob ringing", "cy busy true"}},
		{"ann1", "zoe", true, []string{"ann1 calling", "ann1 ended busy"}},
		{"ann1", "nobody", false, []string{"ann1 calling", "ann1 ended unreachable"}},
		{"ann1", "dnd", false, []string{"ann1 calling", "ann1 ended busy"}},
		{"cy1", "zoe", false, []string{"cy1 calling", "cy1 ended unreachable"}},
	}
	for _, test := range tests {
		t.Run(test.from+" rings "+test.to, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := openWithPusher(t)
				p.dnd = test.dnd
				s.says(test.from, &protocol.Ring{To: protocol.UserID(test.to)})
				expect(t, p.fakeRouter, test.want...)
				s.Close()
			})
		})
	}
}

// TestAStrangerLearnsNothing rings somebody who does not exist, and others who are not
// here: each must be answered by the same frames at the same time, and leave the same
// record. Otherwise a stranger could find out which users exist.
func TestAStrangerLearnsNothing(t *testing.T) {
	for _, recall := range []time.Duration{0, 300 * time.Millisecond, time.Hour} {
		t.Run(fmt.Sprint("the records take ", recall), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// rung is what cy hears, how long after their ring, and the record.
				rung := func(to protocol.UserID, dnd, away bool) string {
					s, p := openWithPusher(t)
					defer s.Close()
					p.dnd, p.databaseDown, p.knowsDelay = dnd, away, recall
					began := time.Now()
					var said strings.Builder
					p.onSend = func(session protocol.SessionID, m protocol.Message) {
						fmt.Fprintf(&said, "%v %s %s\n", time.Since(began), session, protocol.Encode(m))
					}
					s.says("cy1", &protocol.Ring{To: to, Ref: "1", Video: true})
					pass(min(recall, time.Second))
					record := p.ended()[0]
					if len(p.pushed) > 0 {
						t.Errorf("%s was woken", to)
					}
					pass(2 * time.Minute)
					fmt.Fprintf(&said, "%+v", record)
					same := strings.NewReplacer(string(record.Call), "CALL", fmt.Sprintf("%q", to), "TO", "ID:"+string(to), "ID:TO",
						record.RungAt.String(), "RUNG", record.EndedAt.String(), fmt.Sprint("RUNG + ", record.EndedAt.Sub(record.RungAt)))
					return same.Replace(said.String())
				}
				unknown := rung("nobody", false, false)
				if lines := strings.Split(unknown, "\n"); len(lines) != 3 ||
					!strings.HasPrefix(lines[1], fmt.Sprint(min(recall, time.Second), " cy1 {\"type\":\"ended\"")) {
					t.Errorf("somebody who does not exist:\n%s", unknown)
				}
				for name, got := range map[string]string{
					"with a device":                  rung("zoe", false, false),
					"who wants to be left alone":     rung("zoe", true, false),
					"while the database is away":     rung("zoe", false, true),
					"nobody, with the database away": rung("nobody", false, true),
				} {
					if diff := cmp.Diff(unknown, got); diff != "" {
						t.Errorf("somebody %s, not as one who does not exist (-want +got):\n%s", name, diff)
					}
				}
			})
		})
	}
}

// TestARingThatWaitsForTheRecords: what happens until they have an answer counts.
func TestARingThatWaitsForTheRecords(t *testing.T) {
	rings := []string{"ann1 calling", "zoe* ring", "push zoe ringing", "ann busy true"}
	tests := []struct {
		name  string
		do    func(*Switchboard, *fakePusher)
		want  []string
		after time.Duration
		then  []string
	}{
		{
			"nothing happens", func(*Switchboard, *fakePusher) {}, rings, 20 * time.Second,
			[]string{"ann1 ended unreachable", "zoe* ended unreachable", "push zoe missed", "ann busy false"},
		},
		{"the callee comes", func(_ *Switchboard, p *fakePusher) {
			p.change(func() { p.pageOpen, p.knows = true, func(_, _ protocol.UserID) bool { return false } })
		}, rings, 0, nil},
		{"the records cannot be read", func(_ *Switchboard, p *fakePusher) { p.change(func() { p.databaseDown = true }) }, []string{"ann1 calling", "ann1 ended unreachable"}, 0, nil},
		{
			"the caller's connection is lost", func(s *Switchboard, _ *fakePusher) { s.ConnectionLost(s.at("ann1")) }, rings, 10 * time.Second,
			[]string{"ann1 ended canceled", "zoe* ended canceled", "push zoe missed", "ann busy false"},
		},
		{"the caller is back", func(s *Switchboard, _ *fakePusher) {
			s.ConnectionLost(s.at("ann1"))
			s.ConnectionBack(s.at("ann1"))
		}, rings, 10 * time.Second, nil},
		{
			"the caller has gone: nobody hears of it", func(s *Switchboard, _ *fakePusher) { s.SessionEnded(s.at("ann1")) }, nil, 0, nil,
		},
		{
			"the caller's page is loaded anew, and closed", func(s *Switchboard, _ *fakePusher) {
				s.SessionTakenOver("ann1", s.at("ann2"))
				s.SessionEnded(s.at("ann1"))
				s.PageClosed(s.at("ann2"))
			}, append([]string{"ann2 rejoin"}, rings[1:]...), 10 * time.Second,
			[]string{"ann2 ended canceled", "zoe* ended canceled", "push zoe missed", "ann busy false"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := openWithPusher(t)
				defer s.Close()
				p.knowsDelay = 900 * time.Millisecond
				s.says("ann1", &protocol.Ring{To: "zoe"}) // which does not wait
				pass(500 * time.Millisecond)
				expect(t, p.fakeRouter)
				test.do(s, p)
				expect(t, p.fakeRouter) // and the lock is free
				pass(400 * time.Millisecond)
				expect(t, p.fakeRouter, test.want...)
				pass(test.after)
				expect(t, p.fakeRouter, test.then...)
			})
		})
	}
}

// TestAStopEndsLookUps: the ring is answered, and nobody is rung afterwards.
func TestAStopEndsLookUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := openWithPusher(t)
		p.knowsDelay = 900 * time.Millisecond
		s.says("ann1", &protocol.Ring{To: "zoe", Ref: "1"})
		began := time.Now()
		s.Close()
		if took := time.Since(began); took > 0 {
			t.Errorf("the stop took %v", took)
		}
		expect(t, p.fakeRouter, "ann1 error restarting")
		pass(time.Minute)
		expect(t, p.fakeRouter)
		if got := p.ended(); len(got) > 0 {
			t.Errorf("records: %+v", got)
		}
	})
}

// TestBothLookEachOtherUp: of two rings that cross before either has an answer one call is made.
func TestBothLookEachOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		router.knowsDelay = 100 * time.Millisecond
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		pass(50 * time.Millisecond)
		s.says("bob1", &protocol.Ring{To: "ann", Ref: "7"})
		pass(50 * time.Millisecond)
		expect(t, router, "ann1 calling", "bob* ring", "ann busy true")
		pass(50 * time.Millisecond)
		expect(t, router, "bob1 merged", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
		s.says("ann1", &protocol.Hangup{Call: router.lastCall()})
		if got := router.ended(); len(got) != 1 {
			t.Errorf("records: %+v", got)
		}
	})
}

// TestARingDoesNotBlockItsReader: what a session says meanwhile is answered.
func TestARingDoesNotBlockItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		router.knowsDelay = 100 * time.Millisecond
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		if got := s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"}); got != "" {
			t.Errorf("the same ring once more: %s", got)
		}
		if got := s.says("ann1", &protocol.Ring{To: "cy", Ref: "2"}); got != "in_call" {
			t.Errorf("another ring: %q", got)
		}
		pass(100 * time.Millisecond)
		expect(t, router, "ann1 calling", "bob* ring", "ann busy true")
	})
}

// TestWhatBecomesOfAPushedRing ends a ring in every way, and asks late.
func TestWhatBecomesOfAPushedRing(t *testing.T) {
	tests := []struct {
		name  string
		do    func(*Switchboard, *fakePusher, protocol.CallID)
		want  protocol.PushState
		after time.Duration
	}{
		{"no push is taken", func(*Switchboard, *fakePusher, protocol.CallID) { pass(time.Minute) }, protocol.PushMissed, 20 * time.Second},
		{"a push is taken", func(s *Switchboard, _ *fakePusher, id protocol.CallID) {
			s.PushTaken(id)
			pass(2 * time.Minute)
		}, protocol.PushMissed, 60 * time.Second},
		{"a push is taken too late", func(s *Switchboard, _ *fakePusher, id protocol.CallID) {
			pass(21 * time.Second)
			s.PushTaken(id)
		}, protocol.PushMissed, 20 * time.Second},
		{"a device confirms", func(s *Switchboard, p *fakePusher, id protocol.CallID) {
			pushedAs(s, id, p.key(), "ringing")
			pass(2 * time.Minute)
		}, protocol.PushMissed, 60 * time.Second},
		{"canceled", func(s *Switchboard, _ *fakePusher, id protocol.CallID) {
			s.says("ann1", &protocol.Hangup{Call: id})
		}, protocol.PushMissed, 0},
		{"accepted", func(s *Switchboard, _ *fakePusher, id protocol.CallID) {
			s.says("bob1", &protocol.Accept{Call: id})
			s.says("bob1", &protocol.Hangup{Call: id})
		}, protocol.PushElsewhere, 0},
		{"declined", func(s *Switchboard, _ *fakePusher, id protocol.CallID) {
			s.says("bob1", &protocol.Decline{Call: id})
		}, protocol.PushElsewhere, 0},
		{"declined on the notification", func(s *Switchboard, p *fakePusher, id protocol.CallID) {
			if got := pushedAs(s, id, p.key(), "decline"); got != "elsewhere" {
				t.Errorf("declined: %s", got)
			}
		}, protocol.PushElsewhere, 0},
		{"merged", func(s *Switchboard, _ *fakePusher, _ protocol.CallID) {
			s.says("bob1", &protocol.Ring{To: "ann"})
		}, protocol.PushElsewhere, 0},
		{"the server stops", func(s *Switchboard, _ *fakePusher, _ protocol.CallID) { s.Close() }, protocol.PushEnded, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := openWithPusher(t)
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

func TestAPhoneRingsSoftlyBesideACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := openWithPusher(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: p.lastCall()})
		s.says("cy1", &protocol.Ring{To: "bob"})
		s.says("cy1", &protocol.Hangup{Call: p.lastCall()})
		var pushed []string
		for _, m := range p.pushed {
			pushed = append(pushed, fmt.Sprint(m.From.ID, " ", m.State, " ", m.Waiting))
		}
		want := []string{"ann ringing false", "ann elsewhere false", "cy ringing true", "cy missed false"}
		if diff := cmp.Diff(want, pushed); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		s.Close()
	})
}

func TestAClientDoesNotPush(t *testing.T) {
	s, _ := openWithPusher(t)
	if got := s.says("ann1", &protocol.Push{Call: "n1-c", State: protocol.PushRinging, From: protocol.User{ID: "ann", Name: "Ann"}}); got != "unknown_type" {
		t.Errorf("got %q", got)
	}
}

func TestAKeyIsForOneCallAndItsCallee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := openWithPusher(t)
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

func TestADeviceWithAPageThatIsSeenIsNotPushed(t *testing.T) {
	tests := map[string]struct {
		heard bool // the page confirms that it rings
		then  func(s *Switchboard, p *fakePusher, id protocol.CallID)
		want  []string
	}{
		"while the page rings": {true, func(s *Switchboard, _ *fakePusher, id protocol.CallID) {
			s.says("ann1", &protocol.Hangup{Call: id})
		}, []string{"ann1 ended canceled", "bob* ended canceled", "ann busy false"}},
		"but is when it is hidden": {true, func(s *Switchboard, p *fakePusher, id protocol.CallID) {
			p.shown = nil
			s.PageHidden(s.at("bob1"))
			s.PageHidden(s.at("bob2")) // once is enough
			s.says("ann1", &protocol.Hangup{Call: id})
		}, []string{"push bob ringing", "ann1 ended canceled", "bob* ended canceled", "push bob missed", "ann busy false"}},
		"and hears what became of a ring that it was told of": {true, func(s *Switchboard, p *fakePusher, id protocol.CallID) {
			shown := p.shown
			p.shown = nil
			s.PageHidden(s.at("bob1"))
			p.shown = shown
			s.says("bob1", &protocol.Decline{Call: id})
		}, []string{"push bob ringing", "ann1 ended declined", "bob* elsewhere", "push bob elsewhere", "bob1 ended declined", "ann busy false"}},
		"but is when it does not confirm": {false, func(*Switchboard, *fakePusher, protocol.CallID) {}, []string{"push bob ringing"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := openWithPusher(t)
				rungAt := time.Now()
				p.shown = func(since time.Time) []string {
					if since.After(rungAt) || !test.heard && !since.IsZero() {
						return nil
					}
					return []string{"phone"}
				}
				s.says("ann1", &protocol.Ring{To: "bob"})
				expect(t, p.fakeRouter, "ann1 calling", "bob* ring", "ann busy true")
				pass(3 * time.Second)
				test.then(s, p, p.lastCall())
				expect(t, p.fakeRouter, test.want...)
			})
		})
	}
}
