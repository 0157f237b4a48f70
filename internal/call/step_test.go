package call

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var testRules = rules{
	iceServers:   func(protocol.UserID, string) []protocol.ICEServer { return nil },
	timings:      protocol.DefaultTimings(),
	seal:         func(t ticket) string { return t.seal([]byte("secret")) },
	pushKey:      func(id protocol.CallID, u protocol.UserID) string { return pushKey([]byte("secret"), id, u) },
	earlyAnswers: true,
}

func looking() (*Call, []Output) {
	return begin(dial{
		ID: "n1-c", Caller: origin.Origin{Session: "a1", User: protocol.User{ID: "ann", Name: "Ann"}, Address: sources["ann"]}, Callee: protocol.User{ID: "bob"},
		Ref: "r", Video: true, rules: testRules,
	}, start)
}

var foundBob = Input{Kind: Found, found: callee{user: protocol.User{ID: "bob", Name: "Bob"}}}

func ringing() (*Call, []Output) {
	c, _ := looking()
	return c, c.Step(foundBob, start)
}

// messageOf is an input's message as a session would send it.
func messageOf(k Kind) protocol.Message {
	switch k {
	case Confirm:
		return &protocol.Ringing{Call: "n1-c"}
	case Accept:
		return &protocol.Accept{Call: "n1-c"}
	case Decline:
		return &protocol.Decline{Call: "n1-c"}
	case Hangup:
		return &protocol.Hangup{Call: "n1-c"}
	case Offer:
		return &protocol.Offer{Call: "n1-c"}
	case Answer:
		return &protocol.Answer{Call: "n1-c"}
	case Candidates:
		return &protocol.Candidates{Call: "n1-c", Candidates: []protocol.Candidate{
			{Candidate: "candidate:1 1 udp 1 192.0.2.9 50000 typ relay raddr 0.0.0.0 rport 0"},
			{Candidate: "candidate:2 1 udp 2 192.168.1.7 50001 typ host"},
		}}
	case Merge:
		return &protocol.Ring{To: "ann", Ref: "2"}
	case Rejoin:
		return &protocol.Rejoin{}
	case Media:
		return &protocol.Media{Call: "n1-c", Connection: protocol.Connected}
	}
	return nil
}

func by(session string, k Kind) Input {
	return Input{Kind: k, Origin: fromSession(session), Message: messageOf(k)}
}

// sources are the addresses that the parties' connections come from.
var sources = map[protocol.UserID]netip.Addr{"ann": netip.MustParseAddr("192.0.2.1"), "bob": netip.MustParseAddr("192.0.2.2")}

// alwaysRelays reports whether a session of [everything] hides its addresses: the second ones do.
func alwaysRelays(s protocol.SessionID) bool { return strings.HasSuffix(string(s), "2") }

// fromSession is the origin of what one of [everything]'s sessions says.
func fromSession(session string) origin.Origin {
	id := protocol.SessionID(session)
	from := originOf(userOfSession(id))
	from.Session, from.AlwaysRelay, from.Address = id, alwaysRelays(id), sources[from.User.ID]
	return from
}

// in brings a new call into a state by way of its messages.
func in(s State) *Call {
	if s == Looking {
		c, _ := looking()
		return c
	}
	c, _ := ringing()
	if s == Ringing {
		return c
	}
	c.Step(by("b1", Accept), start.Add(time.Second))
	if s == Ended {
		c.Step(by("a1", Hangup), start.Add(time.Minute))
	}
	return c
}

// outcome is a step in a word or two: the state it led to, and what the session
// that sent the message was answered.
func outcome(c *Call, input Input) string {
	out := c.Step(input, start.Add(2*time.Second))
	words := []string{c.State().String()}
	for _, o := range out {
		if send, ok := o.(Send); ok && send.Session == input.Session && input.Session != "" {
			word := send.Message.Type()
			switch m := send.Message.(type) {
			case *protocol.Error:
				word = string(m.Code)
			case *protocol.Ended:
				word = "ended " + string(m.Reason)
			case *protocol.Elsewhere:
				word = "elsewhere"
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// TestEveryInputInEveryState decides each pair for each kind of sender: a1 is the
// caller's session, a2 another of theirs, b1 the callee's (that accepted), b2
// another of theirs, x1 a stranger's.
func TestEveryInputInEveryState(t *testing.T) {
	const unknown = "unknown_call"
	tests := []struct {
		state State
		kind  Kind
		want  map[string]string // by session; what is missing changes nothing and is not answered
	}{
		{Looking, Rejoin, map[string]string{"x1": unknown}},
		{Looking, PageClosed, nil},
		{Looking, ConnectionLost, nil},
		{Looking, ConnectionBack, nil},
		{Looking, SessionEnded, map[string]string{"a1": "Ended"}},
		{Looking, SessionOpened, nil},
		{Looking, PageHidden, nil},
		{Looking, Leave, map[string]string{"a1": "Ended, in_call", "a2": "Ended"}},
		{Looking, Migrate, nil},
		{Looking, Block, map[string]string{"a1": "Ended", "a2": "Ended"}},
		{Looking, SignOut, map[string]string{"a1": "Ended", "a2": "Ended"}},
		{Looking, PushTaken, nil},
		{Looking, Found, map[string]string{"": "Ringing"}},
		{Looking, Restart, map[string]string{"": "Ended"}},
		{Looking, Limit, nil},
		{Looking, Terminate, nil},
		{Looking, Fault, map[string]string{"": "Ended"}},
		{Looking, PushTimeout, nil},
		{Looking, RingTimeout, nil},
		{Looking, UnreachableTimeout, nil},
		{Looking, CallerTimeout, map[string]string{"": "Ended"}},
		{Looking, ConnectTimeout, nil},
		{Looking, MediaTimeout, nil},
		{Looking, CredentialsTimeout, nil},
		{Looking, CallerLostTimeout, nil},
		{Looking, CalleeLostTimeout, nil},

		{Ringing, Confirm, map[string]string{"a1": "Ringing, wrong_state", "a2": "Ringing, wrong_session", "x1": unknown}},
		{Ringing, Accept, map[string]string{"a1": "Ringing, wrong_state", "a2": "Ringing, wrong_session", "b1": "Active, accept, media", "b2": "Active, accept, media", "x1": unknown}},
		{Ringing, Decline, map[string]string{"a1": "Ringing, wrong_state", "a2": "Ringing, wrong_session", "b1": "Ended, ended declined", "b2": "Ended, ended declined", "x1": unknown}},
		{Ringing, Hangup, map[string]string{"a1": "Ended, ended canceled", "a2": "Ringing, wrong_session", "b1": "Ended, ended declined", "b2": "Ended, ended declined", "x1": unknown}},
		{Ringing, Offer, map[string]string{"a2": "Ringing, wrong_session", "b1": "Ringing, wrong_state", "b2": "Ringing, wrong_state", "x1": unknown}},
		{Ringing, Answer, map[string]string{"a1": "Ringing, wrong_state", "a2": "Ringing, wrong_session", "b1": "Ringing, wrong_state", "b2": "Ringing, wrong_state", "x1": unknown}},
		{Ringing, Candidates, map[string]string{"a2": "Ringing, wrong_session", "b1": "Ringing, wrong_state", "b2": "Ringing, wrong_state", "x1": unknown}},
		{Ringing, Media, map[string]string{"a2": "Ringing, wrong_session", "b1": "Ringing, wrong_state", "b2": "Ringing, wrong_state", "x1": unknown}},
		{Ringing, Merge, map[string]string{"a1": "Ringing, wrong_state", "a2": "Ringing, wrong_session", "b1": "Active, merged, media", "b2": "Active, merged, media", "x1": unknown}},
		{Ringing, Rejoin, map[string]string{"a1": "Ringing, rejoin", "a2": "Ringing, rejoin", "x1": unknown}},
		{Ringing, PageClosed, nil},
		{Ringing, MediaTimeout, nil},
		{Ringing, SessionOpened, map[string]string{"b1": "Ringing, ring", "b2": "Ringing, ring"}},
		{Ringing, ConnectionLost, nil},
		{Ringing, ConnectionBack, nil},
		{Ringing, SessionEnded, map[string]string{"a1": "Ended, ended canceled"}},
		{Ringing, PageHidden, nil},
		{Ringing, Leave, map[string]string{"a1": "Ended, ended canceled", "a2": "Ended"}},
		{Ringing, Migrate, nil},
		{Ringing, Block, map[string]string{"a1": "Ended, ended canceled", "a2": "Ended", "b1": "Ended", "b2": "Ended"}},
		{Ringing, SignOut, map[string]string{"a1": "Ended, ended canceled", "a2": "Ended", "b1": "Ended", "b2": "Ended"}},
		{Ringing, Found, nil},
		{Ringing, Restart, map[string]string{"": "Ended"}},
		{Ringing, Limit, map[string]string{"": "Ended"}},
		{Ringing, Terminate, map[string]string{"": "Ended"}},
		{Ringing, Fault, map[string]string{"": "Ended"}},
		{Ringing, PushTaken, nil},
		{Ringing, PushTimeout, nil},
		{Ringing, RingTimeout, map[string]string{"": "Ended"}},
		{Ringing, UnreachableTimeout, map[string]string{"": "Ended"}},
		{Ringing, CallerTimeout, map[string]string{"": "Ended"}},
		{Ringing, ConnectTimeout, nil},
		{Ringing, CredentialsTimeout, nil},
		{Ringing, CallerLostTimeout, nil},
		{Ringing, CalleeLostTimeout, nil},

		{Active, Confirm, map[string]string{"a1": "Active, wrong_state", "a2": "Active, wrong_session", "b2": "Active, elsewhere", "x1": unknown}},
		{Active, Accept, map[string]string{"a1": "Active, wrong_state", "a2": "Active, wrong_session", "b1": "Active, accept", "b2": "Active, elsewhere", "x1": unknown}},
		{Active, Decline, map[string]string{"a1": "Active, wrong_state", "a2": "Active, wrong_session", "b1": "Active, wrong_state", "b2": "Active, elsewhere", "x1": unknown}},
		{Active, Hangup, map[string]string{"a1": "Ended, ended hungup", "a2": "Active, wrong_session", "b1": "Ended, ended hungup", "b2": "Active, wrong_session", "x1": unknown}},
		{Active, Offer, map[string]string{"a2": "Active, wrong_session", "b2": "Active, wrong_session", "x1": unknown}},
		{Active, Answer, map[string]string{"a2": "Active, wrong_session", "b2": "Active, wrong_session", "x1": unknown}},
		{Active, Candidates, map[string]string{"a2": "Active, wrong_session", "b2": "Active, wrong_session", "x1": unknown}},
		{Active, Media, map[string]string{"a2": "Active, wrong_session", "b2": "Active, wrong_session", "x1": unknown}},
		{Active, Merge, map[string]string{"a1": "Active, wrong_state", "a2": "Active, wrong_state", "b1": "Active, wrong_state", "b2": "Active, wrong_state", "x1": unknown}},
		{Active, Rejoin, map[string]string{"a1": "Active, rejoin, media", "a2": "Active, rejoin, media", "b1": "Active, rejoin, media", "b2": "Active, rejoin, media", "x1": unknown}},
		{Active, PageClosed, nil},
		{Active, MediaTimeout, map[string]string{"": "Ended"}},
		{Active, SessionOpened, nil},
		{Active, ConnectionLost, nil},
		{Active, ConnectionBack, nil},
		{Active, SessionEnded, map[string]string{"a1": "Ended, ended hungup", "b1": "Ended, ended hungup"}},
		{Active, PageHidden, nil},
		{Active, Leave, map[string]string{"a1": "Ended, ended hungup", "a2": "Ended", "b1": "Ended, ended hungup", "b2": "Ended"}},
		{Active, Migrate, map[string]string{"a1": "Ended, ended migrated", "b1": "Ended, ended migrated"}},
		{Active, Block, map[string]string{"a1": "Ended, ended hungup", "a2": "Ended", "b1": "Ended, ended hungup", "b2": "Ended"}},
		{Active, SignOut, map[string]string{"a1": "Ended, ended hungup", "a2": "Ended", "b1": "Ended, ended hungup", "b2": "Ended"}},
		{Active, Found, nil},
		{Active, Restart, nil},
		{Active, Limit, map[string]string{"": "Ended"}},
		{Active, Terminate, map[string]string{"": "Ended"}},
		{Active, Fault, map[string]string{"": "Ended"}},
		{Active, PushTaken, nil},
		{Active, PushTimeout, nil},
		{Active, RingTimeout, nil},
		{Active, UnreachableTimeout, nil},
		{Active, CallerTimeout, nil},
		{Active, ConnectTimeout, map[string]string{"": "Ended"}},
		{Active, CredentialsTimeout, nil},
		{Active, CallerLostTimeout, map[string]string{"": "Ended"}},
		{Active, CalleeLostTimeout, map[string]string{"": "Ended"}},
	}
	for k := Confirm; k <= Merge; k++ {
		const refused = "Looking, wrong_state"
		tests = append(tests, struct {
			state State
			kind  Kind
			want  map[string]string
		}{Looking, k, map[string]string{"a1": refused, "a2": refused, "b1": refused, "b2": refused, "x1": unknown}})
	}
	const again = "Ended, ended hungup"
	for _, k := range []Kind{Confirm, Accept, Decline, Hangup, Offer, Answer, Rejoin} {
		tests = append(tests, struct {
			state State
			kind  Kind
			want  map[string]string
		}{Ended, k, map[string]string{"a1": again, "a2": again, "b1": again, "b2": again, "x1": unknown}})
	}
	for k := Candidates; int(k) < kinds; k++ {
		var want map[string]string
		switch {
		case k == Rejoin:
			continue
		case k == Merge:
			const refused = "Ended, wrong_state"
			want = map[string]string{"a1": refused, "a2": refused, "b1": refused, "b2": refused, "x1": unknown}
		case messageOf(k) != nil:
			want = map[string]string{"x1": unknown}
		}
		tests = append(tests, struct {
			state State
			kind  Kind
			want  map[string]string
		}{Ended, k, want})
	}
	decided := map[string]bool{}
	for _, test := range tests {
		decided[fmt.Sprint(test.state, test.kind)] = true
		senders := []string{"a1", "a2", "b1", "b2", "x1"}
		if test.kind >= PushTaken {
			senders = []string{""}
		}
		for _, sender := range senders {
			input := Input{Kind: test.kind}
			if sender != "" {
				input = by(sender, test.kind)
			}
			want, ok := test.want[sender]
			switch {
			case !ok:
				want = test.state.String()
			case want == unknown:
				want = test.state.String() + ", " + unknown
			}
			c := in(test.state)
			if test.kind == Migrate {
				input.dial = dial{ID: "n1-d", Caller: input.Origin, rules: c.rules}
			}
			if got := outcome(c, input); got != want {
				t.Errorf("%s, %s of %q: got %q, want %q", test.state, test.kind, sender, got, want)
			}
		}
	}
	for s := Looking; s <= Ended; s++ {
		for k := range Kind(kinds) {
			if !decided[fmt.Sprint(s, k)] {
				t.Errorf("no row for %s in %s", k, s)
			}
		}
	}
}

// sent are the messages of a step by session ("b*" is every session of Bob but …).
func sent(out []Output) []string {
	var all []string
	for _, o := range out {
		switch o := o.(type) {
		case Send:
			all = append(all, fmt.Sprintf("%s %s", o.Session, o.Message.Type()))
		case SendUser:
			all = append(all, fmt.Sprintf("%s*-%s %s", o.User, o.Except, o.Message.Type()))
		}
	}
	return all
}

func TestWhatACallerSendsWaitsForAccept(t *testing.T) {
	c, out := ringing()
	if diff := cmp.Diff([]string{"a1 calling", "bob*- ring"}, sent(out)); diff != "" {
		t.Errorf("begin (-want +got):\n%s", diff)
	}
	steps := []struct {
		in   Input
		want []string
	}{
		{by("a1", Offer), nil},
		{by("a1", Candidates), nil},
		{by("b1", Confirm), []string{"a1 ringing"}},
		{by("b2", Confirm), nil},
		{Input{Kind: Confirm, Origin: fromSession("b3"), Message: &protocol.Ringing{Early: true}}, []string{"b3 offer", "b3 candidate"}},
		{by("a1", Candidates), []string{"b3 candidate"}},
		{by("b1", Accept), []string{"b1 accept", "bob*-b1 elsewhere", "a1 accept", "b1 offer", "b1 candidate", "b1 media"}},
		{by("a1", Candidates), []string{"b1 candidate"}},
		{by("b1", Answer), []string{"a1 answer"}},
		{by("b1", Candidates), []string{"a1 candidate"}},
		{by("b1", ConnectionLost), []string{"a1 media"}},
		{by("b1", ConnectionBack), []string{"a1 media"}},
		{by("a1", Hangup), []string{"a1 ended", "b1 ended"}},
	}
	for i, step := range steps {
		if diff := cmp.Diff(step.want, sent(c.Step(step.in, start))); diff != "" {
			t.Errorf("step %d, %s (-want +got):\n%s", i, step.in.Kind, diff)
		}
	}
}

func described(sdp string) protocol.Description { return protocol.Description{SDP: sdp} }

// candidatesTo are the candidates that a step sends to a session, in order.
func candidatesTo(out []Output, session protocol.SessionID) []string {
	var all []string
	for _, o := range out {
		send, _ := o.(Send)
		if m, ok := send.Message.(*protocol.Candidates); ok && send.Session == session {
			for _, c := range m.Candidates {
				all = append(all, c.Candidate)
			}
		}
	}
	return all
}

// TestNoAddressBeforeAccept follows an early connection: nothing that names an address
// passes. At accept the two are connected, and an ICE restart brings what is direct.
func TestNoAddressBeforeAccept(t *testing.T) {
	const (
		relay  = "candidate:1 1 udp 1 192.0.2.9 50000 typ relay raddr 0.0.0.0 rport 0"
		leaky  = "candidate:1 1 udp 1 192.0.2.9 50000 typ relay raddr 198.51.100.4 rport 5"
		host   = "candidate:2 1 udp 2 192.168.1.7 50001 typ host"
		inside = "candidate:3 1 udp 2 192.168.1.7 50002 typ host"
		sdp    = "v=0\r\no=- 1 1 IN IP4 192.168.1.7\r\nc=IN IP4 192.168.1.7\r\nm=audio 50002 UDP/TLS/RTP/SAVPF 111\r\na=rtcp:50003 IN IP4 192.168.1.7\r\na=mid:0\r\na=" + inside + "\r\na=" + relay + "\r\n"
	)
	c, _ := ringing()
	early := Input{Kind: Confirm, Origin: fromSession("b1"), Message: &protocol.Ringing{Early: true}}
	c.Step(early, start)
	c.Step(by("b2", Confirm), start)
	candidates := func(session string) Input {
		in := by(session, Candidates)
		in.Message = &protocol.Candidates{Candidates: []protocol.Candidate{{Candidate: host}, {Candidate: relay}, {Candidate: leaky}, {}}}
		return in
	}
	offer := by("a1", Offer)
	offer.Message = &protocol.Offer{Description: described(sdp)}
	var before []Output
	before = append(before, c.Step(offer, start)...)
	before = append(before, c.Step(candidates("a1"), start)...)
	answer := by("b1", Answer)
	answer.Message = &protocol.Answer{Description: described(sdp)}
	before = append(before, c.Step(answer, start)...)
	before = append(before, c.Step(candidates("b1"), start)...)
	for _, o := range before {
		switch o := o.(type) {
		case Send:
			if text := fmt.Sprintf("%+v", o.Message); strings.Contains(text, "192.168.") || strings.Contains(text, "198.51.") {
				t.Errorf("before accept %s is sent %s", o.Session, text)
			}
		case Permit:
			if text := fmt.Sprint(o.Addresses); strings.Contains(text, "192.168.") || strings.Contains(text, "198.51.") {
				t.Errorf("before accept the relay permits %s", text)
			}
		}
	}
	if diff := cmp.Diff([]string{"b1 offer", "b1 candidate", "a1 answer", "a1 candidate"}, sent(before)); diff != "" {
		t.Errorf("before accept (-want +got):\n%s", diff)
	}
	if got := outcome(c, by("b2", Answer)); got != "Ringing, wrong_state" {
		t.Errorf("a second device answers: %s", got)
	}
	out := c.Step(by("b1", Accept), start)
	if got := append(candidatesTo(out, "b1"), candidatesTo(out, "a1")...); got != nil {
		t.Errorf("at accept: candidates %q of the connection that is there", got)
	}
}

// A device that asked for the offer, but did not connect, gets every candidate at accept,
// once: it may not know ICE restarts.
func TestADeviceThatOnlyAskedForTheOfferGetsAllCandidates(t *testing.T) {
	const (
		relay = "candidate:1 1 udp 1 192.0.2.9 50000 typ relay raddr 0.0.0.0 rport 0"
		leaky = "candidate:1 1 udp 1 192.0.2.9 50000 typ relay raddr 198.51.100.4 rport 5"
		host  = "candidate:2 1 udp 2 192.168.1.7 50001 typ host"
	)
	c, _ := ringing()
	c.Step(Input{Kind: Confirm, Origin: fromSession("b1"), Message: &protocol.Ringing{Early: true}}, start)
	c.Step(by("a1", Offer), start)
	all := by("a1", Candidates)
	all.Message = &protocol.Candidates{Candidates: []protocol.Candidate{{Candidate: host}, {Candidate: leaky}, {}}}
	got := candidatesTo(c.Step(all, start), "b1")
	got = append(got, candidatesTo(c.Step(by("b1", Accept), start), "b1")...)
	if diff := cmp.Diff([]string{relay, host, ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnotherDeviceThanTheEarlyOneAccepts(t *testing.T) {
	c, _ := ringing()
	c.Step(Input{Kind: Confirm, Origin: fromSession("b1"), Message: &protocol.Ringing{Early: true}}, start)
	c.Step(by("a1", Offer), start)
	c.Step(by("b1", Answer), start)
	out := c.Step(by("b2", Accept), start)
	if diff := cmp.Diff([]string{"b2 accept", "bob*-b2 elsewhere", "a1 accept", "b2 media"}, sent(out)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, o := range out {
		if send, ok := o.(Send); ok {
			if m, ok := send.Message.(*protocol.Accept); ok && m.Early {
				t.Error("the caller is told that its early connection goes on")
			}
		}
	}
}

func TestADeclineIsForAllDevices(t *testing.T) {
	c, _ := ringing()
	want := []string{"a1 ended", "bob*-b2 elsewhere", "b2 ended"}
	if diff := cmp.Diff(want, sent(c.Step(by("b2", Decline), start))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCandidatesAreBoundedByDescription(t *testing.T) {
	c := in(Active)
	for i := range protocol.MaxCandidates { // two in each message
		got := outcome(c, by("a1", Candidates))
		want := "Active"
		if i >= protocol.MaxCandidates/2 {
			want = "Active, bad_message"
		}
		if got != want {
			t.Fatalf("message %d: got %q, want %q", i+1, got, want)
		}
	}
	c.Step(by("a1", Offer), start)
	if got := outcome(c, by("a1", Candidates)); got != "Active" {
		t.Errorf("after a new offer: got %q", got)
	}
}

func TestACallerLostWhileRingingIsStillLostAfterAccept(t *testing.T) {
	c, _ := ringing()
	c.Step(by("a1", ConnectionLost), start)
	set := map[Kind]bool{}
	for _, o := range c.Step(by("b1", Accept), start) {
		switch o := o.(type) {
		case SetTimer:
			set[o.Kind] = true
		case StopTimer:
			set[o.Kind] = false
		}
	}
	if set[CallerTimeout] || !set[CallerLostTimeout] {
		t.Errorf("timers after accept: %v", set)
	}
}

// FuzzStep feeds any sequence of inputs and checks what must hold after each.
func FuzzStep(f *testing.F) {
	f.Add([]byte("a happy call, perhaps"))
	f.Fuzz(func(t *testing.T, script []byte) {
		c, _ := looking()
		now, finished, dropped, accepted := start, 0, false, protocol.SessionID("")
		for i := 0; i+1 < len(script); i += 2 {
			now = now.Add(time.Duration(script[i]) * time.Millisecond)
			sender := []string{"a1", "a2", "b1", "b2", "x1"}[script[i]%5]
			input := by(sender, Kind(int(script[i+1])%kinds))
			switch {
			case input.Kind == Migrate:
				input.dial = dial{ID: "n1-d", Caller: input.Origin, rules: c.rules}
			case input.Kind == Found:
				input = foundBob
			case input.Kind >= PushTaken:
				input = Input{Kind: input.Kind}
			}
			before := c.State()
			for _, o := range c.Step(input, now) {
				switch o := o.(type) {
				case Drop:
					dropped = true
				case Finish:
					finished++
					if o.Record.Duration() < 0 || o.Record.Reason == "" {
						t.Fatalf("record %+v", o.Record)
					}
				}
			}
			switch {
			case before == Ended && c.State() != Ended:
				t.Fatal("a call left Ended")
			case c.State() < before:
				t.Fatalf("a call went back to %s", c.State())
			case sender[0] == 'x' && input.User.ID != "" && c.State() != before:
				t.Fatal("a stranger changed the call")
			case accepted != "" && c.callee.session != accepted && input.Kind != Rejoin: // a page loaded anew takes the call
				t.Fatal("a second session accepted")
			case c.State() == Active && c.callee.session == "":
				t.Fatal("active without an accepting session")
			}
			accepted = c.callee.session
		}
		want := 0
		if c.State() == Ended && !dropped {
			want = 1
		}
		if finished != want {
			t.Fatalf("state %s with %d records, dropped: %v", c.State(), finished, dropped)
		}
	})
}

var update = flag.Bool("update", false, "write the table of calls into DESIGN.md")

// drawn is the table of this package for a person: who may do what in which state,
// and what it does.
func drawn() string {
	who := map[sender]string{nobody: "", theCaller: "caller: ", anyCallee: "callee: ", theParties: "party: ", anyone: "either: "}
	var text strings.Builder
	text.WriteString("| input | Looking | Ringing | Active | Ended |\n| --- | --- | --- | --- | --- |\n")
	for k := range Kind(kinds) {
		fmt.Fprintf(&text, "| %s |", k)
		for s := Looking; s <= Ended; s++ {
			r := table[s][k]
			if r.step == nil {
				text.WriteString(" – |")
				continue
			}
			name := runtime.FuncForPC(reflect.ValueOf(r.step).Pointer()).Name()
			name = name[strings.LastIndexByte(name, '.')+1:]
			if strings.HasPrefix(name, "func") { // a closure: endAs, dropAs
				c := in(s)
				name = "ends: "
				for _, o := range c.Step(Input{Kind: k}, start) {
					if send, ok := o.(Send); ok && s == Looking {
						refused, _ := send.Message.(*protocol.Error)
						name += string(refused.Code)
					}
				}
				if s != Looking {
					name += string(c.reason)
				}
			}
			fmt.Fprintf(&text, " %s%s |", who[r.sender], name)
		}
		text.WriteString("\n")
	}
	return text.String()
}

// TestDesignShowsTheTable keeps DESIGN.md true; go test ./internal/call -update writes it.
func TestDesignShowsTheTable(t *testing.T) {
	const file, begin, end = "../../DESIGN.md", "<!-- table of internal/call -->\n", "<!-- end of table -->"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	shown, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("DESIGN.md has no place for the table: %q … %q", begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+drawn()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(drawn(), shown); diff != "" {
		t.Errorf("DESIGN.md shows another table (-code +document); -update writes it:\n%s", diff)
	}
}

// TestOnlyStepsEndACall: what is no step of a call says what has happened, as an input.
func TestOnlyStepsEndACall(t *testing.T) {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	steps := []string{"begin.go", "ringing.go", "active.go", "end.go"}
	calls := regexp.MustCompile(`\.end\(|\bstate\b[^=\n]* = `)
	for _, name := range sources {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		inSteps := slices.Contains(steps, name)
		if found := calls.Find(source); found != nil && !inSteps && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s has %q", name, found)
		}
	}
}
