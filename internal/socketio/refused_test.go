package socketio_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

func TestTargetsThatCannotBeCalled(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "polling", "Bob")
	offer := func(target string) {
		ann.emit("offer", dict{"target": target, "offer": description("offer", "aaaa", "1")})
	}
	for _, target := range []string{"nobody", strings.Repeat("\u00e9", 40)} {
		offer(target)
		if e := ann.await("ended"); e.Reason != "unreachable" || e.Username != target {
			t.Errorf("absent: %+v", e)
		}
	}
	offer("Ann")
	if e := ann.await("error"); e.Code != "self" || e.Target != "Ann" {
		t.Errorf("self: %+v", e)
	}
	offer("Bob")
	bob.await("offer")
	bob.emit("decline", nil)
	if e := ann.await("ended"); e.Reason != "declined" || e.By != "Bob" {
		t.Errorf("declined: %+v", e)
	}
	bob.await("ended")

	cid := enter(t, base, "websocket", "Cid")
	cid.emit("offer", dict{"target": "Bob", "offer": description("offer", "cccc", "3")})
	bob.await("offer")
	offer("Bob")
	if e := ann.await("ended"); e.Reason != "busy" || e.Username != "Bob" {
		t.Errorf("busy: %+v", e)
	}
	cid.emit("hangup", dict{})
	if e := bob.await("ended"); e.Reason != "canceled" || e.By != "Cid" {
		t.Errorf("canceled: %+v", e)
	}
	bob.emit("answer", dict{"target": "Cid", "answer": description("answer", "bbbb", "2")})
	if e := bob.await("error"); e.Code != "unknown_call" || e.Target != "Cid" {
		t.Errorf("answer to an ended call: %+v", e)
	}
	if got := ann.events(); slices.Contains(got, "error") {
		t.Errorf("beside that Ann gets %v", got)
	}
}

func TestBadEventsAreAnswered(t *testing.T) {
	base := start(t)
	for _, ways := range []string{"websocket", "polling"} {
		ann, bob := enter(t, base, ways, "Ann"+ways), enter(t, base, ways, "Bob"+ways)
		for _, c := range []struct{ packet, code string }{
			{`42[]`, "bad_message"},
			{`42{}`, "bad_message"},
			{`42`, "bad_message"},
			{`42[7]`, "bad_message"},
			{`42["offer"]`, "bad_message"},
			{`42["offer",null]`, "bad_message"},
			{`42["offer","Bob"]`, "bad_message"},
			{`42["offer",{"target":7}]`, "bad_message"},
			{`42["offer",{"target":"Bob","offer":"v=0"}]`, "bad_message"},
			{`42["offer",{"target":"Bob","offer":{"type":"offer","sdp":"v=0"}}]`, "bad_description"},
			{`42["offer",{"target":"Bob","offer":{"type":"answer","sdp":"v=0"}}]`, "bad_description"},
			{`42["answer",{"target":"Bob","answer":{}}]`, "unknown_call"},
			{`42["candidate",{"target":"Bob","candidate":"candidate:1"}]`, "bad_message"},
			{`42["candidate",{"target":"Bob","candidate":{"candidate":"` + strings.Repeat("x", 2000) + `"}}]`, "bad_message"},
			{`42["hangup",{"call":"` + strings.Repeat("x", 65) + `"}]`, "bad_message"},
			{`42["hangup",{"call":"n1-other"}]`, "unknown_call"},
			{`42["accept"]`, "unknown_call"},
			{`42["join",{"room":"1"}]`, "unknown_type"},
			{`42["offer",` + strings.Repeat("[", 20000) + `]`, "bad_message"},
			{`451-["offer",{"_placeholder":true,"num":0}]`, "bad_message"},
		} {
			ann.send(c.packet)
			if e := ann.await("error"); e.Code != c.code || e.Message == "" {
				t.Errorf("%s, %.60s: %+v, want %s", ways, c.packet, e, c.code)
			}
		}
		ann.send(`427["offer",{"target":"Bob` + ways + `"}]`)
		if e := ann.await("ack"); !strings.Contains(e.Message, `"bad_message"`) {
			t.Errorf("acknowledged with %s", e.Message)
		}
		body, _ := json.Marshal(dict{"target": "Bob" + ways, "offer": description("offer", "aaaa", "1")})
		ann.send(`428["offer",` + string(body) + `]`)
		if e := ann.await("ack"); e.Message != `[{"ok":true}]` {
			t.Errorf("acknowledged with %s", e.Message)
		}
		bob.await("offer")
	}
}

// A packet that is not Socket.IO ends its connection, and nothing else.
func TestBadPacketsEndTheConnection(t *testing.T) {
	base := start(t)
	bob := enter(t, base, "websocket", "Bob")
	for _, ways := range []string{"websocket", "polling"} {
		for i, packet := range []string{"", "2", "5", "7", "4", "49", "40", "4x", "0{}", strings.Repeat("x", protocol.MaxFrame+1)} {
			v := enter(t, base, ways, fmt.Sprint("Ann ", ways, i))
			v.send(packet)
			<-v.ended
		}
		v := connect(t, base, ways, url.Values{"username": {"Ann"}}, "/nowhere")
		v.send(`42["offer",{}]`)
		<-v.ended
	}
	bob.emit("hangup", nil)
	bob.await("error")
}

// Events that lead to no message count like messages.
func TestTooManyEvents(t *testing.T) {
	base := start(t)
	v := enter(t, base, "websocket", "Ann")
	for range 400 {
		v.send(`42[]`)
	}
	v.until("rate_limited, or the end", func() bool {
		return v.closed || slices.ContainsFunc(v.inbox, func(e told) bool { return e.Code == "rate_limited" })
	})
}

// An offer over the limit is refused, and nothing of it stays: the next one rings.
func TestAnOfferOverTheLimitIsRefused(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	for range 61 {
		ann.send(`42["nonsense",{}]`)
	}
	offer, _ := json.Marshal(dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	ann.send(`421["offer",` + string(offer) + `]`)
	if e := ann.await("ack"); !strings.Contains(e.Message, `"rate_limited"`) {
		t.Errorf("acknowledged with %s", e.Message)
	}
	for told := (told{}); told.Target != "Bob"; {
		if told = ann.await("error"); told.Target == "Bob" && told.Code != "rate_limited" {
			t.Errorf("told %+v", told)
		}
	}
	answers := 0
	for answered := false; !answered; answers++ {
		ann.send(`422["offer",` + string(offer) + `]`)
		answered = ann.await("ack").Message == `[{"ok":true}]`
		if answers > 200 {
			t.Fatal("the limit never ends")
		}
		<-time.After(10 * time.Millisecond) // 200 refusals in a row close the connection
	}
	bob.await("offer")
}

// A description and as many candidates as it may have come through at once.
func TestAHundredCandidatesAtOnce(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	for i := range protocol.MaxCandidates {
		body, _ := json.Marshal(dict{"target": "Bob", "candidate": candidate("aaaa", fmt.Sprintf("192.0.2.%d", i))})
		ann.send(`421["candidate",` + string(body) + `]`)
	}
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	for i := range protocol.MaxCandidates {
		if e := ann.await("ack"); e.Message != `[{"ok":true}]` {
			t.Errorf("candidate %d is acknowledged with %s", i, e.Message)
		}
		if e := bob.await("candidate"); !strings.Contains(e.Candidate.Candidate, fmt.Sprintf("192.0.2.%d ", i)) {
			t.Errorf("candidate %d: %s", i, e.Candidate.Candidate)
		}
	}
	body, _ := json.Marshal(dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.101")})
	ann.send(`422["candidate",` + string(body) + `]`)
	if e := ann.await("ack"); !strings.Contains(e.Message, `"bad_message"`) {
		t.Errorf("one more than allowed is acknowledged with %s", e.Message)
	}
}
