package call

import (
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

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

// pass lets time pass in a synctest bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// open returns a switchboard and its fake router.
func open(t *testing.T) (*Switchboard, *fakeRouter) {
	router := new(fakeRouter)
	log := slog.New(slog.DiscardHandler)
	s, err := New(Config{Router: router, Directory: account.NewDirectory(router, router, nil, log), Recorder: router, Relay: router, Secret: []byte("secret"), EarlyAnswers: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, router
}

func (s *Switchboard) says(session string, m protocol.Message) string {
	if err := s.HandleMessage(s.at(protocol.SessionID(session)), m); err != nil {
		return string(err.Code)
	}
	if _, ring := m.(*protocol.Ring); ring {
		synctest.Wait() // for the look-up
	}
	return ""
}

func expect(t *testing.T, router *fakeRouter, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, router.since()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheLifeOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1", Video: true})
		expect(t, router, "ann1 calling", "bob* ring", "ann busy true")
		id := router.lastCall()
		s.says("bob1", &protocol.Ringing{Call: id})
		expect(t, router, "ann1 ringing")
		pass(7 * time.Second)
		s.says("bob1", &protocol.Accept{Call: id})
		expect(t, router, "bob1 accept", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
		s.says("ann1", &protocol.Media{Call: id, Connection: protocol.Connected})
		s.says("bob1", &protocol.Media{Call: id, Connection: protocol.Connected})
		expect(t, router, "bob1 media connected", "ann1 media connected")
		pass(time.Hour)
		s.says("bob1", &protocol.Hangup{Call: id})
		expect(t, router, "ann1 ended hungup", "bob1 ended hungup", "ann busy false", "bob busy false")
		if got := router.ended(); len(got) != 1 || got[0].Duration() != time.Hour || got[0].Callee.Name != "BOB" {
			t.Errorf("records: %+v", got)
		}
		s.says("ann1", &protocol.Hangup{Call: id})
		expect(t, router, "ann1 ended hungup")
		pass(3 * time.Minute)
		if got := s.says("ann1", &protocol.Hangup{Call: id}); got != "unknown_call" {
			t.Errorf("a forgotten call: got %q", got)
		}
	})
}

func TestTimers(t *testing.T) {
	ring := func(s *Switchboard) { s.says("ann1", &protocol.Ring{To: "bob"}) }
	confirmed := func(s *Switchboard, router *fakeRouter) {
		ring(s)
		s.says("bob1", &protocol.Ringing{Call: router.lastCall()})
	}
	accepted := func(s *Switchboard, router *fakeRouter) {
		ring(s)
		s.says("bob1", &protocol.Accept{Call: router.lastCall()})
	}
	connected := func(s *Switchboard, router *fakeRouter) {
		accepted(s, router)
		s.says("ann1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Connected})
		s.says("bob1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Connected})
	}
	tests := []struct {
		name  string
		do    func(*Switchboard, *fakeRouter)
		after time.Duration // the call lives until then; 0: for an hour and longer
		want  protocol.EndReason
	}{
		{"no device confirms", func(s *Switchboard, _ *fakeRouter) { ring(s) }, 20 * time.Second, protocol.ReasonUnreachable},
		{"nobody answers", confirmed, 60 * time.Second, protocol.ReasonUnanswered},
		{"the caller vanishes", func(s *Switchboard, router *fakeRouter) {
			confirmed(s, router)
			s.ConnectionLost(s.at("ann1"))
		}, 10 * time.Second, protocol.ReasonCanceled},
		{"the caller is back", func(s *Switchboard, router *fakeRouter) {
			confirmed(s, router)
			s.ConnectionLost(s.at("ann1"))
			pass(9 * time.Second)
			s.ConnectionBack(s.at("ann1"))
		}, 51 * time.Second, protocol.ReasonUnanswered},
		{"the callee's connection is no matter while it rings", func(s *Switchboard, router *fakeRouter) {
			confirmed(s, router)
			s.ConnectionLost(s.at("bob1"))
		}, 60 * time.Second, protocol.ReasonUnanswered},
		{"no media", accepted, 30 * time.Second, protocol.ReasonFailed},
		{"media of one party only", func(s *Switchboard, router *fakeRouter) {
			accepted(s, router)
			s.says("ann1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Connected})
		}, 30 * time.Second, protocol.ReasonFailed},
		{"media", connected, 0, ""},
		{"the callee vanishes", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.ConnectionLost(s.at("bob1"))
		}, 60 * time.Second, protocol.ReasonLost},
		{"the callee is back", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.ConnectionLost(s.at("bob1"))
			pass(59 * time.Second)
			s.ConnectionBack(s.at("bob1"))
		}, 0, ""},
		{"the callee's page is closed", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.PageClosed(s.at("bob1"))
		}, 30 * time.Second, protocol.ReasonLost},
		{"media goes and stays away", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.says("bob1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
			s.says("ann1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
		}, 30 * time.Second, protocol.ReasonLost},
		{"media goes, and the other party says nothing: it sleeps", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.says("bob1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
		}, 60 * time.Second, protocol.ReasonLost},
		{"the other party wakes, and there is no media", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.says("bob1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
			pass(45 * time.Second)
			s.says("ann1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
		}, 30 * time.Second, protocol.ReasonLost},
		{"media goes and comes back", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.says("bob1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
			pass(29 * time.Second)
			s.says("bob1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Connected})
		}, 0, ""},
		{"media goes while a party is away: its own time runs", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.says("ann1", &protocol.Media{Call: router.lastCall(), Connection: protocol.Reconnecting})
			pass(20 * time.Second)
			s.ConnectionLost(s.at("bob1"))
		}, 60 * time.Second, protocol.ReasonLost},
		{"another of the callee's sessions vanishes", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.ConnectionLost(s.at("bob2"))
		}, 0, ""},
		{"the caller leaves", func(s *Switchboard, router *fakeRouter) {
			connected(s, router)
			s.SessionEnded(s.at("ann1"))
		}, time.Nanosecond, protocol.ReasonHungup},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, router := open(t)
				test.do(s, router)
				router.since()
				if test.after == 0 {
					pass(time.Hour)
					if got := router.since(); got != nil {
						t.Errorf("within an hour: %v", got)
					}
					return
				}
				pass(test.after - time.Nanosecond)
				if early := router.ended(); len(early) != 0 && test.after > time.Nanosecond {
					t.Fatalf("ended before its time: %v", early)
				}
				pass(time.Nanosecond)
				if got := router.ended(); len(got) != 1 || got[0].Reason != test.want {
					t.Errorf("records: %+v, want one, %s", got, test.want)
				}
			})
		})
	}
}

// TestAStrangerStaysOutside: only with a caller whom the callee knows may a device connect
// before accept, and a callee need not hide from one. From a page without a relay of ours
// nobody can hide.
func TestAStrangerStaysOutside(t *testing.T) {
	for name, test := range map[string]struct{ knows, away, noRelay, early, stranger bool }{
		"a stranger":                 {stranger: true},
		"an acquaintance":            {knows: true, early: true},
		"the records cannot be read": {knows: true, away: true, stranger: true},
		"a stranger without a relay": {noRelay: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, router := open(t)
				router.knows = func(user, other protocol.UserID) bool { return test.knows && user == "bob" && other == "ann" }
				router.databaseDown = test.away
				var early, stranger bool
				router.onSendUser = func(m protocol.Message) {
					if ring, ok := m.(*protocol.Ring); ok {
						early, stranger = ring.Early, ring.Stranger
					}
				}
				s.says("ann1", &protocol.Ring{To: "bob", Early: true, NoRelay: test.noRelay})
				id := router.lastCall()
				s.says("ann1", &protocol.Offer{Call: id, Description: showing("offer")})
				s.says("bob1", &protocol.Ringing{Call: id, Early: true})
				s.says("bob1", &protocol.Answer{Call: id, Description: showing("answer")})
				heard := router.since()
				answered := slices.Contains(heard, "ann1 answer")
				if stranger != test.stranger {
					t.Errorf("the ring says a stranger: %v, want %v", stranger, test.stranger)
				}
				if early != test.early || answered != test.early {
					t.Errorf("the ring says early: %v, an answer passes: %v; want %v; heard %v", early, answered, test.early, heard)
				}
			})
		})
	}
}

func TestRingRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		if got := s.says("ann1", &protocol.Ring{To: "ann"}); got != "self" {
			t.Errorf("oneself: got %q", got)
		}
		if got := s.says("ann1", &protocol.Ring{To: "bob", Call: "mine", From: &protocol.User{}}); got != "bad_message" {
			t.Errorf("own call id: got %q", got)
		}
		s.says("ann1", &protocol.Ring{To: "nobody"})
		expect(t, router, "ann1 calling", "ann1 ended unreachable")
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "2"})
		expect(t, router, "ann1 calling", "bob* ring", "ann busy true")
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "2"})
		expect(t, router, "ann1 calling") // again, the same call
		if router.calls[len(router.calls)-1] != router.calls[len(router.calls)-2] {
			t.Error("a repeated ring made a second call")
		}
		if got := s.says("ann1", &protocol.Ring{To: "cy", Ref: "3"}); got != "in_call" {
			t.Errorf("while ringing: got %q", got)
		}
		s.says("cy1", &protocol.Ring{To: "bob"})
		expect(t, router, "cy1 calling", "bob* ring", "cy busy true") // to be rung is no reason to be busy
		if got := s.says("eve1", &protocol.Accept{Call: router.calls[1]}); got != "unknown_call" {
			t.Errorf("a stranger: got %q", got)
		}
		if got := s.says("eve1", &protocol.Welcome{}); got != "unknown_type" {
			t.Errorf("a server's message: got %q", got)
		}
		s.says("ann1", &protocol.Hangup{Call: router.calls[1]})
		for range 3 {
			s.says("ann1", &protocol.Ring{To: "nobody"})
		}
		if got := s.says("ann1", &protocol.Ring{To: "nobody"}); got != "rate_limited" {
			t.Errorf("the sixth ring in a minute: got %q", got)
		}
		pass(12 * time.Second)
		if got := s.says("ann1", &protocol.Ring{To: "nobody"}); got != "" {
			t.Errorf("12 s later: got %q", got)
		}
	})
}

func TestOnlyACallerWhoCanConnectsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		for _, can := range []bool{false, true} {
			s.says("ann1", &protocol.Ring{To: "bob", Early: can})
			id := router.lastCall()
			if got := s.calls[id].ringMessage(time.Now()).Early; got != can {
				t.Errorf("caller says early %v: the ring says %v", can, got)
			}
			s.says("ann1", &protocol.Offer{Call: id, Description: showing("offer")})
			s.says("bob1", &protocol.Ringing{Call: id, Early: true})
			router.since()
			refused := s.says("bob1", &protocol.Answer{Call: id, Description: showing("answer")})
			if can && refused == "" {
				expect(t, router, "ann1 answer")
			} else if can || refused != "wrong_state" {
				t.Errorf("caller says early %v: the answer is refused as %q", can, refused)
			}
			s.says("ann1", &protocol.Hangup{Call: id})
		}
	})
}

func TestALateDeviceRingsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Ringing{Call: router.lastCall()})
		pass(56 * time.Second)
		router.since()
		s.SessionOpened(s.at("bob2"))
		expect(t, router, "bob2 ring")
		pass(2 * time.Second)
		s.SessionOpened(s.at("bob3")) // less than 3 s left
		expect(t, router)
	})
}

// TestOneSessionWins lets many sessions accept, decline and hang up at once.
func TestOneSessionWins(t *testing.T) {
	for range 50 {
		synctest.Test(t, oneSessionWins)
	}
}

func oneSessionWins(t *testing.T) {
	s, router := open(t)
	s.says("ann1", &protocol.Ring{To: "bob"})
	id := router.lastCall()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { s.says(fmt.Sprint("bob", i), &protocol.Accept{Call: id}) })
	}
	wg.Go(func() { s.says("ann1", &protocol.Candidates{Call: id, Candidates: []protocol.Candidate{{}}}) })
	wg.Wait()
	accepts := 0
	for _, note := range router.notes {
		if strings.HasPrefix(note, "bob") && strings.HasSuffix(note, " accept") {
			accepts++
		}
	}
	if accepts != 1 {
		t.Fatalf("%d sessions were told that they have the call: %v", accepts, router.notes)
	}
	s.Close()
	if len(router.records) != 0 {
		t.Fatalf("an active call was ended by a stop: %+v", router.records)
	}
	if got := s.says("cy1", &protocol.Ring{To: "dee"}); got != "restarting" {
		t.Fatalf("ring after a stop: got %q", got)
	}
}

func TestGlareMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		router.since()
		if got := s.says("bob1", &protocol.Ring{To: "ann", Ref: "7"}); got != "" {
			t.Errorf("the second ring: %s", got)
		}
		expect(t, router, "bob1 merged", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
		s.says("bob1", &protocol.Hangup{Call: router.lastCall()})
		if got := router.ended(); len(got) != 1 {
			t.Errorf("records: %+v", got)
		}
	})
}

func TestRingingAgainMigrates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		old := router.lastCall()
		s.says("bob1", &protocol.Accept{Call: old})
		router.since()
		if got := s.says("bob2", &protocol.Ring{To: "ann", Ref: "5"}); got != "in_call" {
			t.Errorf("from another device: %q", got)
		}
		s.says("bob1", &protocol.Ring{To: "ann", Ref: "5"})
		expect(t, router, "ann1 ended migrated", "bob1 ended migrated", "ann busy false", "bob busy false",
			"bob1 calling", "bob1 accept", "ann1 rejoin", "ann busy true", "bob busy true")
		s.says("ann1", &protocol.Hangup{Call: router.lastCall()})
		if got := router.ended(); len(got) != 2 || got[0].Reason != protocol.ReasonMigrated || got[1].Caller.ID != "bob" {
			t.Errorf("records: %+v", got)
		}
	})
}

// TestWhoHides: of a party that hides, always or in this call, the other one sees relayed addresses only.
func TestWhoHides(t *testing.T) {
	const host, relay = "candidate:1 1 udp 1 198.51.100.3 5 typ host", "candidate:2 1 udp 1 203.0.113.1 5 typ relay raddr 198.51.100.4 rport 6"
	const neutral = "candidate:2 1 udp 1 203.0.113.1 5 typ relay raddr 0.0.0.0 rport 0"
	sources := map[protocol.SessionID]netip.Addr{"ann1": netip.MustParseAddr("192.0.2.1"), "bob1": netip.MustParseAddr("192.0.2.2")}
	for _, hides := range []protocol.SessionID{"", "ann1", "bob1", "bob2", "bob1 by its accept"} {
		for _, early := range []bool{false, true} {
			hidden := map[protocol.SessionID]bool{"ann1": hides == "ann1", "bob1": hides == "bob1" || hides == "bob1 by its accept"}
			synctest.Test(t, func(t *testing.T) {
				s, router := open(t)
				router.notesRelay, router.alwaysRelay = true, map[protocol.SessionID]bool{hides: true}
				router.addresses = func(s protocol.SessionID) netip.Addr { return sources[s] }
				seen := map[protocol.SessionID]string{}
				router.onSend = func(to protocol.SessionID, m protocol.Message) { seen[to] += string(protocol.Encode(m)) }
				s.says("ann1", &protocol.Ring{To: "bob", Early: true})
				id := router.lastCall()
				if got := router.since()[:2]; !slices.Equal(got, []string{"relay only true", "ann1 calling"}) {
					t.Errorf("at first: %q", got)
				}
				description := func(kind string) protocol.Description {
					return protocol.Description{Type: kind, SDP: "v=0\r\no=- 7 2 IN IP4 198.51.100.3\r\nm=audio 9 UDP/TLS/RTP/SAVPF 1\r\nc=IN IP4 198.51.100.3\r\na=" + host + "\r\na=" + relay + "\r\n"}
				}
				candidates := &protocol.Candidates{Call: id, Candidates: []protocol.Candidate{{Candidate: host}, {Candidate: relay}, {}}}
				s.says("ann1", &protocol.Offer{Call: id, Description: description("offer")})
				s.says("ann1", candidates)
				if early {
					s.says("bob1", &protocol.Ringing{Call: id, Early: true})
					s.says("bob1", &protocol.Answer{Call: id, Description: description("answer")})
					s.says("bob1", candidates)
				}
				router.since()
				s.says("bob2", &protocol.Accept{Call: "n1-none"}) // not this call's
				s.says("bob1", &protocol.Accept{Call: id, RelayOnly: hides == "bob1 by its accept"})
				s.says("bob2", &protocol.Accept{Call: id, RelayOnly: true}) // too late
				// What is direct comes with the restart that follows.
				if early {
					s.says("ann1", &protocol.Offer{Call: id, Description: description("offer")})
				}
				s.says("bob1", &protocol.Answer{Call: id, Description: description("answer")})
				s.says("bob1", candidates)
				s.says("ann1", candidates)
				heard := router.since()
				if !slices.Contains(heard, "relay only false") {
					t.Errorf("hides %q: the relay is not opened", hides)
				}
				for party, peer := range map[protocol.SessionID]protocol.SessionID{"ann1": "bob1", "bob1": "ann1"} {
					for address, want := range map[string]bool{"198.51.100.": !hidden[peer], neutral: hidden[peer] || early, "203.0.113.1": true} {
						if got := strings.Contains(seen[party], address); got != want {
							t.Errorf("hides %q, early %v: %s sees %s: %v, want %v\n%s", hides, early, party, address, got, want, seen[party])
						}
					}
				}
				// The relay reaches where a party signals from unless that hides.
				for user, party := range map[string]protocol.SessionID{"ann": "ann1", "bob": "bob1"} {
					permitted := slices.ContainsFunc(heard, func(line string) bool {
						return strings.HasPrefix(line, "permit "+user) && strings.Contains(line, sources[party].String())
					})
					if permitted == hidden[party] {
						t.Errorf("hides %q, early %v: the source of %s is permitted: %v", hides, early, party, permitted)
					}
				}
				// A call that goes on in another page, or as another call, does so as it was.
				s.SessionTakenOver("ann1", s.at("ann2"))
				clear(seen)
				s.says("ann2", &protocol.Offer{Call: id, Epoch: 1, Description: description("offer")})
				if got := strings.Contains(seen["bob1"], "198.51.100."); got == hidden["ann1"] {
					t.Errorf("hides %q: bob1 sees an address of another page of ann's: %v", hides, got)
				}
			})
		}
	}
}

// TestTheRelayPermitsWhatIsShown: each address before the message that shows it.
func TestTheRelayPermitsWhatIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		router.notesRelay = true
		candidates := func(id protocol.CallID, all ...string) *protocol.Candidates {
			m := &protocol.Candidates{Call: id}
			for _, c := range all {
				m.Candidates = append(m.Candidates, protocol.Candidate{Candidate: c})
			}
			return m
		}
		s.says("ann1", &protocol.Ring{To: "bob"})
		id := router.lastCall()
		s.says("ann1", &protocol.Offer{Call: id, Description: protocol.Description{
			Type: "offer", SDP: "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 1\r\na=candidate:1 1 udp 1 198.51.100.3 5 typ host\r\n",
		}})
		s.says("ann1", candidates(id, "candidate:1 1 udp 1 2001:db8::5 5 typ srflx raddr 10.0.0.5 rport 9", "candidate:2 1 udp 1 6f0.local 5 typ host", ""))
		router.since()
		s.says("bob1", &protocol.Accept{Call: id})
		expect(t, router, "relay only false", "bob1 accept", "bob* elsewhere", "ann1 accept",
			"permit ann [192.0.2.1]", "permit bob []", "permit ann [198.51.100.3 192.0.2.1]", "bob1 offer", "permit ann [2001:db8::5 192.0.2.1]", "bob1 candidate", "bob1 media connecting", "bob busy true")
		s.says("bob1", candidates(id, "candidate:1 1 udp 1 203.0.113.9 5 typ host"))
		expect(t, router, "permit bob [203.0.113.9]", "ann1 candidate")
		s.says("bob1", &protocol.Media{Call: id, Connection: protocol.Connected})
		expect(t, router, "ann1 media connected")
		s.says("ann1", &protocol.Hangup{Call: id})
		if got := router.ended(); len(got) != 1 || got[0].RelayedBytes != 4711 {
			t.Errorf("records: %+v", got)
		}
	})
}

func TestCallWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		router.whenBusy = map[protocol.UserID]protocol.WhenBusy{"ann": protocol.AnswerBusy}
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		first := router.lastCall()
		s.says("bob1", &protocol.Accept{Call: first})
		router.since()
		s.says("cy1", &protocol.Ring{To: "ann"})
		expect(t, router, "cy1 calling", "cy1 ended busy") // her choice
		s.says("cy1", &protocol.Ring{To: "bob"})
		expect(t, router, "cy1 calling", "bob* ring", "cy busy true")
		second := router.lastCall()
		for _, more := range []string{"dee", "fay", "gus"} {
			s.says(more+"1", &protocol.Ring{To: "bob"})
			expect(t, router, more+"1 calling", "bob* ring", more+" busy true")
		}
		s.says("ivy1", &protocol.Ring{To: "bob"})
		expect(t, router, "ivy1 calling", "ivy1 ended busy") // four ring already
		s.says("bob1", &protocol.Accept{Call: second})
		expect(t, router, "ann1 ended hungup", "bob1 ended hungup", "ann busy false", "bob busy false",
			"bob1 accept", "bob* elsewhere", "cy1 accept", "bob1 media connecting", "bob busy true")
		s.says("bob1", &protocol.Hangup{Call: second})
		expect(t, router, "cy1 ended hungup", "bob1 ended hungup", "cy busy false", "bob busy false")
		s.says("jan1", &protocol.Ring{To: "dnd"})
		expect(t, router, "jan1 calling", "jan1 ended busy")
	})
}

// TestToBeRungKeepsNobodyFromRinging: one who is rung may ring somebody else, and takes
// the call that rings all the same.
func TestToBeRungKeepsNobodyFromRinging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		first := router.lastCall()
		router.since()
		if got := s.says("bob1", &protocol.Ring{To: "cy"}); got != "" {
			t.Errorf("Bob, who is rung, rings Cy: %s", got)
		}
		expect(t, router, "bob1 calling", "cy* ring", "bob busy true")
		s.says("bob1", &protocol.Accept{Call: first})
		expect(t, router, "bob1 ended canceled", "cy* ended canceled", "bob busy false",
			"bob1 accept", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
	})
}

// TestRingingInVainIsLimited: three rings without an answer, then some minutes of peace;
// an answer ends the counting, and what disturbs nobody is not counted.
func TestRingingInVainIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		ring := func(to protocol.UserID) string {
			pass(time.Minute) // else she rings too often
			if got := s.says("ann1", &protocol.Ring{To: to}); got != "" {
				return got
			}
			s.says("ann1", &protocol.Hangup{Call: router.lastCall()})
			return ""
		}
		for i := range 3 {
			if got := ring("bob"); got != "" {
				t.Fatalf("ring %d: %s", i, got)
			}
		}
		if got := ring("bob"); got != "rate_limited" {
			t.Errorf("a fourth ring: %q, want rate_limited", got)
		}
		if got := ring("cy"); got != "" {
			t.Errorf("somebody else: %q", got)
		}
		for i := range 5 {
			if got := ring("nobody"); got != "" {
				t.Errorf("ring %d of nobody: %q", i, got)
			}
		}
		s.says("bob1", &protocol.Ring{To: "ann"})
		id := router.lastCall()
		s.says("ann1", &protocol.Accept{Call: id})
		s.says("ann1", &protocol.Hangup{Call: id})
		for i := range 3 {
			if got := ring("bob"); got != "" {
				t.Errorf("ring %d after they have talked: %q", i, got)
			}
		}
		if got := ring("bob"); got != "rate_limited" {
			t.Errorf("a fourth ring after that: %q", got)
		}
		pass(coolDown)
		if got := ring("bob"); got != "" {
			t.Errorf("after the cool-down: %q", got)
		}
	})
}

// TestRingsOfOneAddressAreLimited, whoever they come from, and generously.
func TestRingsOfOneAddressAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		router.addresses = func(protocol.SessionID) netip.Addr { return netip.MustParseAddr("2001:db8::1") }
		rung := 0
		for i := range 300 {
			who := fmt.Sprintf("u%c%c1", 'a'+i/26, 'a'+i%26)
			if got := s.says(who, &protocol.Ring{To: "nobody"}); got == "" {
				rung++
			}
		}
		if want := 5 * perAddress; rung != want {
			t.Errorf("%d of 300 rings of one address in a transcriptStep, want %d", rung, want)
		}
		router.addresses = func(protocol.SessionID) netip.Addr { return netip.MustParseAddr("2001:db8:0:1::1") }
		if got := s.says("zoe1", &protocol.Ring{To: "nobody"}); got != "" {
			t.Errorf("the next address: %q", got)
		}
	})
}

// TestRingingAgainInACallIsLimited: each such ring is a new call for the other party.
func TestRingingAgainInACallIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "0"})
		s.says("bob1", &protocol.Accept{Call: router.lastCall()})
		refused := 0
		for i := range 20 {
			if s.says("ann1", &protocol.Ring{To: "bob", Ref: fmt.Sprint(i + 1)}) == "rate_limited" {
				refused++
			}
		}
		if refused != 16 { // five a minute, with the first
			t.Errorf("%d of 20 are refused, want 16", refused)
		}
	})
}

// forged is a ticket with another seal.
func forged(ticket string) string {
	if last := len(ticket) - 1; ticket[last] != 'A' {
		return ticket[:last] + "A"
	}
	return ticket[:len(ticket)-1] + "E"
}

// TestTicketsSurviveTheServer lets a second switchboard take up a call that it
// has never seen.
func TestTicketsSurviveTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Video: true})
		id := router.lastCall()
		pass(5 * time.Second)
		s.says("bob1", &protocol.Accept{Call: id})
		synctest.Wait()
		sealed := router.ticket
		pass(time.Minute)
		s.Close() // as good as kill -9: nothing is handed on

		again, router := open(t)
		for name, bad := range map[string]string{
			"forged": forged(sealed), "garbage": "x.y", "another's": sealed,
		} {
			who := "ann2"
			if name == "another's" {
				who = "eve1"
			}
			if got := again.says(who, &protocol.Rejoin{Ticket: bad}); got != "bad_ticket" {
				t.Errorf("%s: got %q", name, got)
			}
		}
		again.says("bob2", &protocol.Rejoin{Ticket: sealed})
		expect(t, router, "bob2 rejoin", "bob2 media reconnecting", "bob busy true")
		again.says("bob2", &protocol.Media{Call: id, Connection: protocol.Connected})
		again.says("ann2", &protocol.Rejoin{Ticket: sealed})
		again.says("ann2", &protocol.Rejoin{Ticket: sealed}) // again: the same answer
		again.says("ann2", &protocol.Media{Call: id, Connection: protocol.Connected})
		expect(t, router, "ann2 rejoin", "ann2 media connected", "ann busy true",
			"ann2 rejoin", "ann2 media connected", "ann busy true", "bob2 media connected")
		pass(time.Hour)
		again.says("ann2", &protocol.Hangup{Call: id})
		got := router.ended()
		if len(got) != 1 || got[0].Duration() != time.Hour+time.Minute || got[0].Callee.Name != "BOB" || !got[0].Video {
			t.Errorf("records: %+v", got)
		}
		again.says("ann2", &protocol.Rejoin{Ticket: sealed})
		if heard := router.since(); heard[len(heard)-1] != "ann2 ended hungup" {
			t.Errorf("a ticket of an ended call: %v", heard)
		}
		pass(time.Hour) // it is forgotten, but for its record
		if got := again.says("ann2", &protocol.Rejoin{Ticket: sealed, Call: id}); got != "unknown_call" {
			t.Errorf("a ticket of a call that ended an hour ago: got %q", got)
		}
		expect(t, router)
		pass(24 * time.Hour)
		if got := again.says("ann2", &protocol.Rejoin{Ticket: sealed}); got != "bad_ticket" {
			t.Errorf("expired: got %q", got)
		}
	})
}

// TestATicketWaitsForProof: where nothing can tell whether the call goes on, its ticket
// is refused for now, and only for now.
func TestATicketWaitsForProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: router.lastCall()})
		synctest.Wait()
		again, next := open(t)
		next.databaseDown = true
		if got := again.says("ann2", &protocol.Rejoin{Ticket: router.ticket}); got != "unavailable" {
			t.Errorf("while nobody can tell: %q, want unavailable", got)
		}
		expect(t, next)
		next.mu.Lock()
		next.databaseDown = false
		next.mu.Unlock()
		again.says("ann2", &protocol.Rejoin{Ticket: router.ticket})
		expect(t, next, "ann2 rejoin", "ann2 media reconnecting", "ann busy true")
	})
}

// TestALateHangUp: the server was away when Ann hung up.
func TestALateHangUp(t *testing.T) {
	for ago, want := range map[time.Duration]time.Duration{
		0: 90 * time.Second, 20 * time.Second: 70 * time.Second, time.Hour: 30 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			s, router := open(t)
			s.says("ann1", &protocol.Ring{To: "bob"})
			s.says("bob1", &protocol.Accept{Call: router.lastCall()})
			for _, who := range []string{"ann1", "bob1"} {
				s.says(who, &protocol.Media{Call: router.lastCall(), Connection: protocol.Connected})
			}
			pass(90 * time.Second)
			s.says("ann1", &protocol.Hangup{Call: router.lastCall(), AgoMs: ago.Milliseconds()})
			if got := router.ended(); len(got) != 1 || got[0].Duration() != want {
				t.Errorf("hung up %v ago: records %+v, want one of %v", ago, got, want)
			}
		})
	}
}

// TestWhyACallFailed: the record and both parties have the detail that tells most, and a call
// with media has none.
func TestWhyACallFailed(t *testing.T) {
	media := func(connection protocol.Connection, detail protocol.Detail) *protocol.Media {
		return &protocol.Media{Connection: connection, Detail: detail}
	}
	for name, test := range map[string]struct {
		caller, callee *protocol.Media
		hangUp         protocol.Detail
		want           protocol.EndReason
		detail         protocol.Detail
	}{
		"nobody knows":            {media(protocol.Connecting, ""), media(protocol.Connecting, ""), "", protocol.ReasonFailed, ""},
		"one knows more":          {media(protocol.Connecting, protocol.DetailNoPath), media(protocol.Connecting, protocol.DetailRelayFull), "", protocol.ReasonFailed, protocol.DetailRelayFull},
		"a word of tomorrow":      {media(protocol.Connecting, "moonlight"), media(protocol.Connecting, ""), "", protocol.ReasonFailed, "moonlight"},
		"a description refused":   {media(protocol.Connecting, ""), media(protocol.Connecting, ""), protocol.DetailDescription, protocol.ReasonFailed, protocol.DetailDescription},
		"refused after media was": {media(protocol.Connected, ""), media(protocol.Connected, ""), protocol.DetailDescription, protocol.ReasonHungup, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, router := open(t)
				s.says("ann1", &protocol.Ring{To: "bob"})
				s.says("bob1", &protocol.Accept{Call: router.lastCall()})
				test.caller.Call, test.callee.Call = router.lastCall(), router.lastCall()
				s.says("ann1", test.caller)
				s.says("bob1", test.callee)
				if test.hangUp != "" {
					s.says("bob1", &protocol.Hangup{Call: router.lastCall(), Detail: test.hangUp})
				} else {
					pass(31 * time.Second)
				}
				got := router.ended()
				if len(got) != 1 || got[0].Reason != test.want || got[0].Detail != test.detail {
					t.Errorf("records %+v, want one as %s with detail %q", got, test.want, test.detail)
				}
			})
		})
	}
}

func TestCallsOfAnEarlierRunAreTakenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: router.lastCall()})
		synctest.Wait()
		if len(router.accepted) != 1 || len(router.ended()) != 0 {
			t.Fatalf("records after accept: %+v, ended %+v", router.accepted, router.records)
		}
		again, next := open(t)
		again.Restore(router.accepted)
		expect(t, next)
		again.says("ann2", &protocol.Rejoin{Ticket: router.ticket})
		next.since()
		pass(time.Minute) // Bob never comes
		if got := next.ended(); len(got) != 1 || got[0].Reason != protocol.ReasonLost || got[0].Call != router.lastCall() {
			t.Errorf("records: %+v", got)
		}
	})
}

// TestADescriptionWaitsForAPartyOfAnEarlierRun: who comes back first restarts at
// once, and need not do so again when the other is there.
func TestADescriptionWaitsForAPartyOfAnEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		id := router.lastCall()
		s.says("bob1", &protocol.Accept{Call: id})
		again, next := open(t)
		again.says("ann2", &protocol.Rejoin{Ticket: router.ticket})
		candidates := []protocol.Candidate{{Candidate: "candidate:1 1 udp 1 203.0.113.5 5 typ host"}}
		again.says("ann2", &protocol.Offer{Call: id})
		again.says("ann2", &protocol.Candidates{Call: id, Candidates: candidates})
		again.says("ann2", &protocol.Offer{Call: id, Epoch: 1})
		again.says("ann2", &protocol.Candidates{Call: id, Epoch: 1, Candidates: candidates})
		next.since()
		again.says("bob2", &protocol.Rejoin{Ticket: router.ticket})
		expect(t, next, "bob2 rejoin", "bob2 media connecting", "bob2 offer", "bob2 candidate", "bob busy true")
		again.says("bob2", &protocol.Answer{Call: id, Epoch: 1})
		again.says("bob2", &protocol.Rejoin{Ticket: router.ticket})
		again.says("ann2", &protocol.Offer{Call: id, Epoch: 1})
		expect(t, next, "ann2 answer", "bob2 rejoin", "bob2 media connecting", "bob busy true", "bob2 offer")
	})
}

func TestAReloadedPageIsInTheSameCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		id := router.lastCall()
		s.PageClosed(s.at("ann1"))
		router.since()
		s.SessionTakenOver("ann1", s.at("ann2"))
		s.SessionEnded(s.at("ann1"))
		expect(t, router, "ann2 rejoin")
		s.says("bob1", &protocol.Accept{Call: id})
		expect(t, router, "bob1 accept", "bob* elsewhere", "ann2 accept", "bob1 media connecting", "bob busy true")
		s.PageClosed(s.at("bob1"))
		expect(t, router, "ann2 media reloading")
		s.SessionTakenOver("bob1", s.at("bob2"))
		s.SessionEnded(s.at("bob1"))
		expect(t, router, "bob1 elsewhere", "bob2 rejoin", "bob2 media connecting")
		s.says("bob2", &protocol.Offer{Call: id, Epoch: 1})
		expect(t, router, "ann2 offer")
	})
}

func TestIsRelayed(t *testing.T) {
	for candidate, want := range map[string]bool{
		"candidate:1 1 udp 8191 203.0.113.1 53456 typ relay raddr 0.0.0.0 rport 0 generation 0": true, // Chromium
		"candidate:0 1 UDP 8265727 203.0.113.1 61055 typ relay raddr 203.0.113.1 rport 61055":   true, // Firefox
		"candidate:1 1 udp 8191 2001:db8::1 53456 typ relay raddr :: rport 0":                   true,
		"candidate:1 1 udp 8191 203.0.113.1 53456 typ relay":                                    true,
		"candidate:1 1 udp 8191 203.0.113.1 53456 typ relay raddr 198.51.100.7 rport 5000":      false, // shows whose it is
		"candidate:1 1 udp 8191 203.0.113.1 53456 typ relay raddr":                              false,
		"candidate:1 1 udp 8191 198.51.100.7 5000 typ srflx raddr 0.0.0.0 rport 0":              false,
		"candidate:1 1 udp 8191 198.51.100.7 5000 typ host":                                     false,
		"typ relay raddr 198.51.100.7":                                                          false,
		"":                                                                                      false,
	} {
		if got := isRelayed(candidate); got != want {
			t.Errorf("isRelayed(%q) = %v, want %v", candidate, got, want)
		}
	}
}

// TestWhoSignsOutEverywhereIsRungNoMore: nobody could answer the ring, and nobody hangs up.
func TestWhoSignsOutEverywhereIsRungNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		expect(t, router, "ann1 calling", "bob* ring", "ann busy true")
		s.SignedOut("bob")
		expect(t, router, "ann1 ended unreachable", "bob* ended unreachable", "ann busy false")
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: router.lastCall()})
		router.since()
		s.SignedOut("ann")
		expect(t, router, "ann1 ended hungup", "bob1 ended hungup", "ann busy false", "bob busy false")
	})
}
