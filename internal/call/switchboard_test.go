package call

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

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// house is a router and recorder that writes down what it is told.
type house struct {
	mu           sync.Mutex
	heard        []string
	calls        []protocol.CallID
	records      []Record
	living       []Record                       // as they were accepted
	ticket       string                         // the last that was issued
	tellsPermits bool                           // set before use
	shown        func(since time.Time) []string // set before use
	hear         func(protocol.SessionID, protocol.Message)
	hearUser     func(protocol.Message)
	hiding       map[protocol.SessionID]bool           // always relay; set before use
	away         bool                                  // the database is; guarded by mu
	whenBusy     map[protocol.UserID]protocol.WhenBusy // set before use
	addresses    func(protocol.SessionID) netip.Addr   // set before use; nil for a few fixed ones
	// acquainted says who knows whom; guarded by mu. The database takes recall for that; set before use.
	acquainted func(user, other protocol.UserID) bool
	recall     time.Duration
}

func (h *house) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, fmt.Sprintf(format, args...))
}

func word(m protocol.Message) string {
	switch m := m.(type) {
	case *protocol.Ended:
		return "ended " + string(m.Reason)
	case *protocol.Error:
		return "error " + string(m.Code)
	case *protocol.Media:
		return "media " + string(m.Connection)
	}
	return m.Type()
}

func (h *house) SendSession(s protocol.SessionID, m protocol.Message) {
	if c, ok := m.(*protocol.Calling); ok {
		h.mu.Lock()
		h.calls = append(h.calls, c.Call)
		h.mu.Unlock()
	}
	if a, ok := m.(*protocol.Accept); ok {
		h.mu.Lock()
		h.ticket = a.Ticket
		h.mu.Unlock()
	}
	if h.hear != nil {
		h.hear(s, m)
	}
	h.note("%s %s", s, word(m))
}

func (h *house) SendUser(u protocol.UserID, except protocol.SessionID, m protocol.Message) {
	if h.hearUser != nil {
		h.hearUser(m)
	}
	h.note("%s* %s", u, word(m))
}

// Here implements [account.Presence].
func (h *house) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	prefers := protocol.Prefer{WhenBusy: h.whenBusy[id], DoNotDisturb: id == "dnd"}
	return protocol.User{ID: id, Name: strings.ToUpper(string(id))}, prefers, id != "nobody"
}

// Shown implements [Router].
func (h *house) Shown(_ protocol.UserID, since time.Time) []string {
	if h.shown != nil {
		return h.shown(since)
	}
	return nil
}

// at is the origin of what a session says.
func (h *house) at(session protocol.SessionID) origin.Origin {
	from := of(userOf(session))
	from.Session, from.AlwaysRelay = session, h.hiding[session]
	if h.addresses != nil {
		from.Address = h.addresses(session)
	} else if session == "ann1" {
		from.Address = netip.MustParseAddr("192.0.2.1")
	}
	return from
}

// at is the origin of what a session says, as the house of the switchboard knows it.
func (s *Switchboard) at(session protocol.SessionID) origin.Origin {
	return s.cfg.Router.(interface { //nolint:forcetypeassert // it is a house
		at(protocol.SessionID) origin.Origin
	}).at(session)
}

func (h *house) Permit(_ protocol.CallID, party protocol.UserID, addrs []netip.Addr) {
	if h.tellsPermits {
		h.note("permit %s %v", party, addrs)
	}
}

func (h *house) RelayOnly(_ protocol.CallID, on bool) {
	if h.tellsPermits {
		h.note("relay only %v", on)
	}
}

func (h *house) EndCall(protocol.CallID) uint64 { return 4711 }

func (h *house) SetBusy(u protocol.UserID, busy bool) { h.note("%s busy %v", u, busy) }

func (h *house) Record(r Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.EndedAt.IsZero() {
		h.living = append(h.living, r)
		return
	}
	h.records = append(h.records, r)
}

// Lives has no answer while the database is away.
func (h *house) Lives(_ context.Context, id protocol.CallID, _ time.Time) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away {
		return false, errors.New("no database")
	}
	return !slices.ContainsFunc(h.records, func(r Record) bool { return r.Call == id }), nil
}

// Knows implements [account.Acquaintances]. It has no answer while the database is away.
func (h *house) Knows(ctx context.Context, user, other protocol.UserID) (bool, error) {
	if h.recall > 0 {
		select {
		case <-time.After(h.recall):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away {
		return false, errors.New("no database")
	}
	return h.acquainted == nil || h.acquainted(user, other), nil
}

// since are the words heard since the last time it was asked.
func (h *house) since() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	heard := h.heard
	h.heard = nil
	return heard
}

func (h *house) lastCall() protocol.CallID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[len(h.calls)-1]
}

// ended are the records so far.
func (h *house) ended() []Record {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.records
}

// pass lets time go by in a bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// open is a switchboard and its house.
func open(t *testing.T) (*Switchboard, *house) {
	h := new(house)
	log := slog.New(slog.DiscardHandler)
	s, err := New(Config{Router: h, Directory: account.NewDirectory(h, h, nil, log), Recorder: h, Relay: h, Secret: []byte("secret"), EarlyAnswers: true, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, h
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

func expect(t *testing.T, h *house, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, h.since()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheLifeOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1", Video: true})
		expect(t, h, "ann1 calling", "bob* ring", "ann busy true")
		id := h.lastCall()
		s.says("bob1", &protocol.Ringing{Call: id})
		expect(t, h, "ann1 ringing")
		pass(7 * time.Second)
		s.says("bob1", &protocol.Accept{Call: id})
		expect(t, h, "bob1 accept", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
		s.says("ann1", &protocol.Media{Call: id, Connection: protocol.Connected})
		s.says("bob1", &protocol.Media{Call: id, Connection: protocol.Connected})
		expect(t, h, "bob1 media connected", "ann1 media connected")
		pass(time.Hour)
		s.says("bob1", &protocol.Hangup{Call: id})
		expect(t, h, "ann1 ended hungup", "bob1 ended hungup", "ann busy false", "bob busy false")
		if got := h.ended(); len(got) != 1 || got[0].Duration() != time.Hour || got[0].Callee.Name != "BOB" {
			t.Errorf("records: %+v", got)
		}
		s.says("ann1", &protocol.Hangup{Call: id})
		expect(t, h, "ann1 ended hungup")
		pass(3 * time.Minute)
		if got := s.says("ann1", &protocol.Hangup{Call: id}); got != "unknown_call" {
			t.Errorf("a forgotten call: got %q", got)
		}
	})
}

func TestTimers(t *testing.T) {
	ring := func(s *Switchboard) { s.says("ann1", &protocol.Ring{To: "bob"}) }
	confirmed := func(s *Switchboard, h *house) {
		ring(s)
		s.says("bob1", &protocol.Ringing{Call: h.lastCall()})
	}
	accepted := func(s *Switchboard, h *house) {
		ring(s)
		s.says("bob1", &protocol.Accept{Call: h.lastCall()})
	}
	connected := func(s *Switchboard, h *house) {
		accepted(s, h)
		s.says("ann1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Connected})
		s.says("bob1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Connected})
	}
	tests := []struct {
		name  string
		do    func(*Switchboard, *house)
		after time.Duration // the call lives until then; 0: for an hour and longer
		want  protocol.EndReason
	}{
		{"no device confirms", func(s *Switchboard, _ *house) { ring(s) }, 20 * time.Second, protocol.ReasonUnreachable},
		{"nobody answers", confirmed, 60 * time.Second, protocol.ReasonUnanswered},
		{"the caller vanishes", func(s *Switchboard, h *house) {
			confirmed(s, h)
			s.ConnectionLost(s.at("ann1"))
		}, 10 * time.Second, protocol.ReasonCanceled},
		{"the caller is back", func(s *Switchboard, h *house) {
			confirmed(s, h)
			s.ConnectionLost(s.at("ann1"))
			pass(9 * time.Second)
			s.ConnectionBack(s.at("ann1"))
		}, 51 * time.Second, protocol.ReasonUnanswered},
		{"the callee's connection is no matter while it rings", func(s *Switchboard, h *house) {
			confirmed(s, h)
			s.ConnectionLost(s.at("bob1"))
		}, 60 * time.Second, protocol.ReasonUnanswered},
		{"no media", accepted, 30 * time.Second, protocol.ReasonFailed},
		{"media of one party only", func(s *Switchboard, h *house) {
			accepted(s, h)
			s.says("ann1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Connected})
		}, 30 * time.Second, protocol.ReasonFailed},
		{"media", connected, 0, ""},
		{"the callee vanishes", func(s *Switchboard, h *house) {
			connected(s, h)
			s.ConnectionLost(s.at("bob1"))
		}, 60 * time.Second, protocol.ReasonLost},
		{"the callee is back", func(s *Switchboard, h *house) {
			connected(s, h)
			s.ConnectionLost(s.at("bob1"))
			pass(59 * time.Second)
			s.ConnectionBack(s.at("bob1"))
		}, 0, ""},
		{"the callee's page is closed", func(s *Switchboard, h *house) {
			connected(s, h)
			s.PageClosed(s.at("bob1"))
		}, 30 * time.Second, protocol.ReasonLost},
		{"media goes and stays away", func(s *Switchboard, h *house) {
			connected(s, h)
			s.says("bob1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
			s.says("ann1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
		}, 30 * time.Second, protocol.ReasonLost},
		{"media goes, and the other party says nothing: it sleeps", func(s *Switchboard, h *house) {
			connected(s, h)
			s.says("bob1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
		}, 60 * time.Second, protocol.ReasonLost},
		{"the other party wakes, and there is no media", func(s *Switchboard, h *house) {
			connected(s, h)
			s.says("bob1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
			pass(45 * time.Second)
			s.says("ann1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
		}, 30 * time.Second, protocol.ReasonLost},
		{"media goes and comes back", func(s *Switchboard, h *house) {
			connected(s, h)
			s.says("bob1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
			pass(29 * time.Second)
			s.says("bob1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Connected})
		}, 0, ""},
		{"media goes while a party is away: its own time runs", func(s *Switchboard, h *house) {
			connected(s, h)
			s.says("ann1", &protocol.Media{Call: h.lastCall(), Connection: protocol.Reconnecting})
			pass(20 * time.Second)
			s.ConnectionLost(s.at("bob1"))
		}, 60 * time.Second, protocol.ReasonLost},
		{"another of the callee's sessions vanishes", func(s *Switchboard, h *house) {
			connected(s, h)
			s.ConnectionLost(s.at("bob2"))
		}, 0, ""},
		{"the caller leaves", func(s *Switchboard, h *house) {
			connected(s, h)
			s.SessionEnded(s.at("ann1"))
		}, time.Nanosecond, protocol.ReasonHungup},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, h := open(t)
				test.do(s, h)
				h.since()
				if test.after == 0 {
					pass(time.Hour)
					if got := h.since(); got != nil {
						t.Errorf("within an hour: %v", got)
					}
					return
				}
				pass(test.after - time.Nanosecond)
				if early := h.ended(); len(early) != 0 && test.after > time.Nanosecond {
					t.Fatalf("ended before its time: %v", early)
				}
				pass(time.Nanosecond)
				if got := h.ended(); len(got) != 1 || got[0].Reason != test.want {
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
				s, h := open(t)
				h.acquainted = func(user, other protocol.UserID) bool { return test.knows && user == "bob" && other == "ann" }
				h.away = test.away
				var early, stranger bool
				h.hearUser = func(m protocol.Message) {
					if ring, ok := m.(*protocol.Ring); ok {
						early, stranger = ring.Early, ring.Stranger
					}
				}
				s.says("ann1", &protocol.Ring{To: "bob", Early: true, NoRelay: test.noRelay})
				id := h.lastCall()
				s.says("ann1", &protocol.Offer{Call: id, Description: showing("offer")})
				s.says("bob1", &protocol.Ringing{Call: id, Early: true})
				s.says("bob1", &protocol.Answer{Call: id, Description: showing("answer")})
				heard := h.since()
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
		s, h := open(t)
		if got := s.says("ann1", &protocol.Ring{To: "ann"}); got != "self" {
			t.Errorf("oneself: got %q", got)
		}
		if got := s.says("ann1", &protocol.Ring{To: "bob", Call: "mine", From: &protocol.User{}}); got != "bad_message" {
			t.Errorf("own call id: got %q", got)
		}
		s.says("ann1", &protocol.Ring{To: "nobody"})
		expect(t, h, "ann1 calling", "ann1 ended unreachable")
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "2"})
		expect(t, h, "ann1 calling", "bob* ring", "ann busy true")
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "2"})
		expect(t, h, "ann1 calling") // again, the same call
		if h.calls[len(h.calls)-1] != h.calls[len(h.calls)-2] {
			t.Error("a repeated ring made a second call")
		}
		if got := s.says("ann1", &protocol.Ring{To: "cy", Ref: "3"}); got != "in_call" {
			t.Errorf("while ringing: got %q", got)
		}
		s.says("cy1", &protocol.Ring{To: "bob"})
		expect(t, h, "cy1 calling", "bob* ring", "cy busy true") // to be rung is no reason to be busy
		if got := s.says("eve1", &protocol.Accept{Call: h.calls[1]}); got != "unknown_call" {
			t.Errorf("a stranger: got %q", got)
		}
		if got := s.says("eve1", &protocol.Welcome{}); got != "unknown_type" {
			t.Errorf("a server's message: got %q", got)
		}
		s.says("ann1", &protocol.Hangup{Call: h.calls[1]})
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
		s, h := open(t)
		for _, can := range []bool{false, true} {
			s.says("ann1", &protocol.Ring{To: "bob", Early: can})
			id := h.lastCall()
			if got := s.calls[id].ringMessage(time.Now()).Early; got != can {
				t.Errorf("caller says early %v: the ring says %v", can, got)
			}
			s.says("ann1", &protocol.Offer{Call: id, Description: showing("offer")})
			s.says("bob1", &protocol.Ringing{Call: id, Early: true})
			h.since()
			refused := s.says("bob1", &protocol.Answer{Call: id, Description: showing("answer")})
			if can && refused == "" {
				expect(t, h, "ann1 answer")
			} else if can || refused != "wrong_state" {
				t.Errorf("caller says early %v: the answer is refused as %q", can, refused)
			}
			s.says("ann1", &protocol.Hangup{Call: id})
		}
	})
}

func TestALateDeviceRingsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Ringing{Call: h.lastCall()})
		pass(56 * time.Second)
		h.since()
		s.SessionOpened(s.at("bob2"))
		expect(t, h, "bob2 ring")
		pass(2 * time.Second)
		s.SessionOpened(s.at("bob3")) // less than 3 s left
		expect(t, h)
	})
}

// TestOneSessionWins lets many sessions accept, decline and hang up at once.
func TestOneSessionWins(t *testing.T) {
	for range 50 {
		synctest.Test(t, oneSessionWins)
	}
}

func oneSessionWins(t *testing.T) {
	s, h := open(t)
	s.says("ann1", &protocol.Ring{To: "bob"})
	id := h.lastCall()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { s.says(fmt.Sprint("bob", i), &protocol.Accept{Call: id}) })
	}
	wg.Go(func() { s.says("ann1", &protocol.Candidates{Call: id, Candidates: []protocol.Candidate{{}}}) })
	wg.Wait()
	accepts := 0
	for _, heard := range h.heard {
		if strings.HasPrefix(heard, "bob") && strings.HasSuffix(heard, " accept") {
			accepts++
		}
	}
	if accepts != 1 {
		t.Fatalf("%d sessions were told that they have the call: %v", accepts, h.heard)
	}
	s.Close()
	if len(h.records) != 0 {
		t.Fatalf("an active call was ended by a stop: %+v", h.records)
	}
	if got := s.says("cy1", &protocol.Ring{To: "dee"}); got != "restarting" {
		t.Fatalf("ring after a stop: got %q", got)
	}
}

func TestGlareMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		h.since()
		if got := s.says("bob1", &protocol.Ring{To: "ann", Ref: "7"}); got != "" {
			t.Errorf("the second ring: %s", got)
		}
		expect(t, h, "bob1 merged", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
		s.says("bob1", &protocol.Hangup{Call: h.lastCall()})
		if got := h.ended(); len(got) != 1 {
			t.Errorf("records: %+v", got)
		}
	})
}

func TestRingingAgainMigrates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		old := h.lastCall()
		s.says("bob1", &protocol.Accept{Call: old})
		h.since()
		if got := s.says("bob2", &protocol.Ring{To: "ann", Ref: "5"}); got != "in_call" {
			t.Errorf("from another device: %q", got)
		}
		s.says("bob1", &protocol.Ring{To: "ann", Ref: "5"})
		expect(t, h, "ann1 ended migrated", "bob1 ended migrated", "ann busy false", "bob busy false",
			"bob1 calling", "bob1 accept", "ann1 rejoin", "ann busy true", "bob busy true")
		s.says("ann1", &protocol.Hangup{Call: h.lastCall()})
		if got := h.ended(); len(got) != 2 || got[0].Reason != protocol.ReasonMigrated || got[1].Caller.ID != "bob" {
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
				s, h := open(t)
				h.tellsPermits, h.hiding = true, map[protocol.SessionID]bool{hides: true}
				h.addresses = func(s protocol.SessionID) netip.Addr { return sources[s] }
				seen := map[protocol.SessionID]string{}
				h.hear = func(to protocol.SessionID, m protocol.Message) { seen[to] += string(protocol.Encode(m)) }
				s.says("ann1", &protocol.Ring{To: "bob", Early: true})
				id := h.lastCall()
				if got := h.since()[:2]; !slices.Equal(got, []string{"relay only true", "ann1 calling"}) {
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
				h.since()
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
				heard := h.since()
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
		s, h := open(t)
		h.tellsPermits = true
		candidates := func(id protocol.CallID, all ...string) *protocol.Candidates {
			m := &protocol.Candidates{Call: id}
			for _, c := range all {
				m.Candidates = append(m.Candidates, protocol.Candidate{Candidate: c})
			}
			return m
		}
		s.says("ann1", &protocol.Ring{To: "bob"})
		id := h.lastCall()
		s.says("ann1", &protocol.Offer{Call: id, Description: protocol.Description{
			Type: "offer", SDP: "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 1\r\na=candidate:1 1 udp 1 198.51.100.3 5 typ host\r\n",
		}})
		s.says("ann1", candidates(id, "candidate:1 1 udp 1 2001:db8::5 5 typ srflx raddr 10.0.0.5 rport 9", "candidate:2 1 udp 1 6f0.local 5 typ host", ""))
		h.since()
		s.says("bob1", &protocol.Accept{Call: id})
		expect(t, h, "relay only false", "bob1 accept", "bob* elsewhere", "ann1 accept",
			"permit ann [192.0.2.1]", "permit bob []", "permit ann [198.51.100.3 192.0.2.1]", "bob1 offer", "permit ann [2001:db8::5 192.0.2.1]", "bob1 candidate", "bob1 media connecting", "bob busy true")
		s.says("bob1", candidates(id, "candidate:1 1 udp 1 203.0.113.9 5 typ host"))
		expect(t, h, "permit bob [203.0.113.9]", "ann1 candidate")
		s.says("bob1", &protocol.Media{Call: id, Connection: protocol.Connected})
		expect(t, h, "ann1 media connected")
		s.says("ann1", &protocol.Hangup{Call: id})
		if got := h.ended(); len(got) != 1 || got[0].RelayedBytes != 4711 {
			t.Errorf("records: %+v", got)
		}
	})
}

func TestCallWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		h.whenBusy = map[protocol.UserID]protocol.WhenBusy{"ann": protocol.AnswerBusy}
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		first := h.lastCall()
		s.says("bob1", &protocol.Accept{Call: first})
		h.since()
		s.says("cy1", &protocol.Ring{To: "ann"})
		expect(t, h, "cy1 calling", "cy1 ended busy") // her choice
		s.says("cy1", &protocol.Ring{To: "bob"})
		expect(t, h, "cy1 calling", "bob* ring", "cy busy true")
		second := h.lastCall()
		for _, more := range []string{"dee", "fay", "gus"} {
			s.says(more+"1", &protocol.Ring{To: "bob"})
			expect(t, h, more+"1 calling", "bob* ring", more+" busy true")
		}
		s.says("ivy1", &protocol.Ring{To: "bob"})
		expect(t, h, "ivy1 calling", "ivy1 ended busy") // four ring already
		s.says("bob1", &protocol.Accept{Call: second})
		expect(t, h, "ann1 ended hungup", "bob1 ended hungup", "ann busy false", "bob busy false",
			"bob1 accept", "bob* elsewhere", "cy1 accept", "bob1 media connecting", "bob busy true")
		s.says("bob1", &protocol.Hangup{Call: second})
		expect(t, h, "cy1 ended hungup", "bob1 ended hungup", "cy busy false", "bob busy false")
		s.says("jan1", &protocol.Ring{To: "dnd"})
		expect(t, h, "jan1 calling", "jan1 ended busy")
	})
}

// TestToBeRungKeepsNobodyFromRinging: one who is rung may ring somebody else, and takes
// the call that rings all the same.
func TestToBeRungKeepsNobodyFromRinging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "1"})
		first := h.lastCall()
		h.since()
		if got := s.says("bob1", &protocol.Ring{To: "cy"}); got != "" {
			t.Errorf("Bob, who is rung, rings Cy: %s", got)
		}
		expect(t, h, "bob1 calling", "cy* ring", "bob busy true")
		s.says("bob1", &protocol.Accept{Call: first})
		expect(t, h, "bob1 ended canceled", "cy* ended canceled", "bob busy false",
			"bob1 accept", "bob* elsewhere", "ann1 accept", "bob1 media connecting", "bob busy true")
	})
}

// TestRingingInVainIsLimited: three rings without an answer, then some minutes of peace;
// an answer ends the counting, and what disturbs nobody is not counted.
func TestRingingInVainIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		ring := func(to protocol.UserID) string {
			pass(time.Minute) // else she rings too often
			if got := s.says("ann1", &protocol.Ring{To: to}); got != "" {
				return got
			}
			s.says("ann1", &protocol.Hangup{Call: h.lastCall()})
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
		id := h.lastCall()
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
		s, h := open(t)
		h.addresses = func(protocol.SessionID) netip.Addr { return netip.MustParseAddr("2001:db8::1") }
		rung := 0
		for i := range 300 {
			who := fmt.Sprintf("u%c%c1", 'a'+i/26, 'a'+i%26)
			if got := s.says(who, &protocol.Ring{To: "nobody"}); got == "" {
				rung++
			}
		}
		if want := 5 * perAddress; rung != want {
			t.Errorf("%d of 300 rings of one address in a moment, want %d", rung, want)
		}
		h.addresses = func(protocol.SessionID) netip.Addr { return netip.MustParseAddr("2001:db8:0:1::1") }
		if got := s.says("zoe1", &protocol.Ring{To: "nobody"}); got != "" {
			t.Errorf("the next address: %q", got)
		}
	})
}

// TestRingingAgainInACallIsLimited: each such ring is a new call for the other party.
func TestRingingAgainInACallIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Ref: "0"})
		s.says("bob1", &protocol.Accept{Call: h.lastCall()})
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
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob", Video: true})
		id := h.lastCall()
		pass(5 * time.Second)
		s.says("bob1", &protocol.Accept{Call: id})
		synctest.Wait()
		sealed := h.ticket
		pass(time.Minute)
		s.Close() // as good as kill -9: nothing is handed on

		again, h := open(t)
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
		expect(t, h, "bob2 rejoin", "bob2 media reconnecting", "bob busy true")
		again.says("bob2", &protocol.Media{Call: id, Connection: protocol.Connected})
		again.says("ann2", &protocol.Rejoin{Ticket: sealed})
		again.says("ann2", &protocol.Rejoin{Ticket: sealed}) // again: the same answer
		again.says("ann2", &protocol.Media{Call: id, Connection: protocol.Connected})
		expect(t, h, "ann2 rejoin", "ann2 media connected", "ann busy true",
			"ann2 rejoin", "ann2 media connected", "ann busy true", "bob2 media connected")
		pass(time.Hour)
		again.says("ann2", &protocol.Hangup{Call: id})
		got := h.ended()
		if len(got) != 1 || got[0].Duration() != time.Hour+time.Minute || got[0].Callee.Name != "BOB" || !got[0].Video {
			t.Errorf("records: %+v", got)
		}
		again.says("ann2", &protocol.Rejoin{Ticket: sealed})
		if heard := h.since(); heard[len(heard)-1] != "ann2 ended hungup" {
			t.Errorf("a ticket of an ended call: %v", heard)
		}
		pass(time.Hour) // it is forgotten, but for its record
		if got := again.says("ann2", &protocol.Rejoin{Ticket: sealed, Call: id}); got != "unknown_call" {
			t.Errorf("a ticket of a call that ended an hour ago: got %q", got)
		}
		expect(t, h)
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
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: h.lastCall()})
		synctest.Wait()
		again, next := open(t)
		next.away = true
		if got := again.says("ann2", &protocol.Rejoin{Ticket: h.ticket}); got != "unavailable" {
			t.Errorf("while nobody can tell: %q, want unavailable", got)
		}
		expect(t, next)
		next.mu.Lock()
		next.away = false
		next.mu.Unlock()
		again.says("ann2", &protocol.Rejoin{Ticket: h.ticket})
		expect(t, next, "ann2 rejoin", "ann2 media reconnecting", "ann busy true")
	})
}

// TestALateHangUp: the server was away when Ann hung up.
func TestALateHangUp(t *testing.T) {
	for ago, want := range map[time.Duration]time.Duration{
		0: 90 * time.Second, 20 * time.Second: 70 * time.Second, time.Hour: 30 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			s, h := open(t)
			s.says("ann1", &protocol.Ring{To: "bob"})
			s.says("bob1", &protocol.Accept{Call: h.lastCall()})
			for _, who := range []string{"ann1", "bob1"} {
				s.says(who, &protocol.Media{Call: h.lastCall(), Connection: protocol.Connected})
			}
			pass(90 * time.Second)
			s.says("ann1", &protocol.Hangup{Call: h.lastCall(), AgoMs: ago.Milliseconds()})
			if got := h.ended(); len(got) != 1 || got[0].Duration() != want {
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
				s, h := open(t)
				s.says("ann1", &protocol.Ring{To: "bob"})
				s.says("bob1", &protocol.Accept{Call: h.lastCall()})
				test.caller.Call, test.callee.Call = h.lastCall(), h.lastCall()
				s.says("ann1", test.caller)
				s.says("bob1", test.callee)
				if test.hangUp != "" {
					s.says("bob1", &protocol.Hangup{Call: h.lastCall(), Detail: test.hangUp})
				} else {
					pass(31 * time.Second)
				}
				got := h.ended()
				if len(got) != 1 || got[0].Reason != test.want || got[0].Detail != test.detail {
					t.Errorf("records %+v, want one as %s with detail %q", got, test.want, test.detail)
				}
			})
		})
	}
}

func TestCallsOfAnEarlierRunAreTakenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: h.lastCall()})
		synctest.Wait()
		if len(h.living) != 1 || len(h.ended()) != 0 {
			t.Fatalf("records after accept: %+v, ended %+v", h.living, h.records)
		}
		again, next := open(t)
		again.Restore(h.living)
		expect(t, next)
		again.says("ann2", &protocol.Rejoin{Ticket: h.ticket})
		next.since()
		pass(time.Minute) // Bob never comes
		if got := next.ended(); len(got) != 1 || got[0].Reason != protocol.ReasonLost || got[0].Call != h.lastCall() {
			t.Errorf("records: %+v", got)
		}
	})
}

// TestADescriptionWaitsForAPartyOfAnEarlierRun: who comes back first restarts at
// once, and need not do so again when the other is there.
func TestADescriptionWaitsForAPartyOfAnEarlierRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		id := h.lastCall()
		s.says("bob1", &protocol.Accept{Call: id})
		again, next := open(t)
		again.says("ann2", &protocol.Rejoin{Ticket: h.ticket})
		candidates := []protocol.Candidate{{Candidate: "candidate:1 1 udp 1 203.0.113.5 5 typ host"}}
		again.says("ann2", &protocol.Offer{Call: id})
		again.says("ann2", &protocol.Candidates{Call: id, Candidates: candidates})
		again.says("ann2", &protocol.Offer{Call: id, Epoch: 1})
		again.says("ann2", &protocol.Candidates{Call: id, Epoch: 1, Candidates: candidates})
		next.since()
		again.says("bob2", &protocol.Rejoin{Ticket: h.ticket})
		expect(t, next, "bob2 rejoin", "bob2 media connecting", "bob2 offer", "bob2 candidate", "bob busy true")
		again.says("bob2", &protocol.Answer{Call: id, Epoch: 1})
		again.says("bob2", &protocol.Rejoin{Ticket: h.ticket})
		again.says("ann2", &protocol.Offer{Call: id, Epoch: 1})
		expect(t, next, "ann2 answer", "bob2 rejoin", "bob2 media connecting", "bob busy true", "bob2 offer")
	})
}

func TestAReloadedPageIsInTheSameCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		id := h.lastCall()
		s.PageClosed(s.at("ann1"))
		h.since()
		s.SessionTakenOver("ann1", s.at("ann2"))
		s.SessionEnded(s.at("ann1"))
		expect(t, h, "ann2 rejoin")
		s.says("bob1", &protocol.Accept{Call: id})
		expect(t, h, "bob1 accept", "bob* elsewhere", "ann2 accept", "bob1 media connecting", "bob busy true")
		s.PageClosed(s.at("bob1"))
		expect(t, h, "ann2 media reloading")
		s.SessionTakenOver("bob1", s.at("bob2"))
		s.SessionEnded(s.at("bob1"))
		expect(t, h, "bob1 elsewhere", "bob2 rejoin", "bob2 media connecting")
		s.says("bob2", &protocol.Offer{Call: id, Epoch: 1})
		expect(t, h, "ann2 offer")
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
		s, h := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		expect(t, h, "ann1 calling", "bob* ring", "ann busy true")
		s.SignedOut("bob")
		expect(t, h, "ann1 ended unreachable", "bob* ended unreachable", "ann busy false")
		s.says("ann1", &protocol.Ring{To: "bob"})
		s.says("bob1", &protocol.Accept{Call: h.lastCall()})
		h.since()
		s.SignedOut("ann")
		expect(t, h, "ann1 ended hungup", "bob1 ended hungup", "ann busy false", "bob busy false")
	})
}
