package socketio_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

func TestWhoMayEnter(t *testing.T) {
	base := start(t)
	ann := nodetest.Enter(t, base, "Ann")
	enter(t, base, "websocket", "Bob")
	for _, c := range []struct{ username, auth, code string }{
		{"Ann", "", "name_taken"},
		{"ann", `{"username":"Cid"}`, ""},
		{"Bob", "", "name_taken"}, // whoever proves nothing is here once
		{"bob", `{"pid":"guessed"}`, "name_taken"},
		{"", "", "unauthorized"},
		{"", "{}", "unauthorized"},
		{"", `{"token":"g1.x.y.z"}`, "unauthorized"},
		{"", `{"token":"` + ann.Welcome.Token + `"}`, ""},
		{"", `{"token":7}`, "bad_message"},
		{"\u202e", "", "bad_name"},
		{strings.Repeat("x", 41), "", "bad_name"},
	} {
		v := connect(t, base, "websocket", url.Values{"username": {c.username}}, c.auth)
		if c.code == "" {
			v.await("welcome")
		} else if e := v.await("connect_error"); e.data.Code != c.code || e.data.Message == "" {
			t.Errorf("username %q, auth %s: %+v, want %s", c.username, c.auth, e.data, c.code)
		}
	}
	v := connect(t, base, "websocket", url.Values{"username": {"Dan"}}, "")
	v.await("welcome")
	v.send(`40/other,{}`)
	if e := v.await("connect_error"); e.Code != "" {
		t.Errorf("another namespace: %+v", e)
	}
	v.send(`42["hangup"]`)
	if e := v.await("error"); e.Code != "unknown_call" {
		t.Errorf("after that: %+v", e)
	}
}

func TestATokensUserIsTheSameAgain(t *testing.T) {
	base := start(t)
	ann := nodetest.Enter(t, base, "Ann")
	v := connect(t, base, "websocket", url.Values{}, `{"token":"`+ann.Welcome.Token+`"}`)
	e := v.await("welcome")
	if e.User.ID != ann.Welcome.User.ID || e.Token == "" || len(e.ICEServers) == 0 {
		t.Errorf("welcome: %+v", e)
	}
}

// A client of our own protocol keeps its name while it may be back in a moment or is in a
// call, and no longer.
func TestTheNameOfSomebodyGoneIsFree(t *testing.T) {
	base := start(t)
	ann, bob := nodetest.Enter(t, base, "Ann"), nodetest.Enter(t, base, "Bob")
	ann.Send(&protocol.Ring{Ref: "1", To: bob.Welcome.User.ID})
	ring := nodetest.Await[*protocol.Ring](bob)
	bob.Send(&protocol.Accept{Call: ring.Call})
	nodetest.Await[*protocol.Accept](ann)
	cid := nodetest.Enter(t, base, "Cid")
	ann.Cut()
	cid.Cut()
	enters := func(name string) bool {
		v := connect(t, base, "websocket", url.Values{"username": {name}}, "")
		return v.await("connect_error", "welcome").event == "welcome"
	}
	becomesFree := func(name string) {
		t.Helper()
		for deadline := time.Now().Add(patience); !enters(name); {
			if time.Now().After(deadline) {
				t.Fatal("the name is never free:", name)
			}
			<-time.After(100 * time.Millisecond) // the server limits handshakes
		}
	}
	becomesFree("Cid")
	if enters("Ann") {
		t.Error("somebody has the name of Ann, who is in a call and gone as long as Cid")
	}
	back := nodetest.Hello(t, base, &protocol.Hello{Version: protocol.Version, Token: ann.Welcome.Token, Resume: ann.Welcome.Resume})
	if !back.Welcome.Resumed {
		t.Error("Ann's session has ended")
	}
	back.Leave() // a client that closes with 1000 hangs up
	if m := nodetest.Await[*protocol.Ended](bob); m.Reason != protocol.ReasonHungup {
		t.Errorf("ended: %+v", m)
	}
	becomesFree("Ann") // who is told of as gone before the name is given back
}

// A name takes nothing up: neither the session of a page nor its call.
func TestANameTakesNothingUp(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	id := func(name string) (is protocol.UserID) {
		ann.emit("offer", dict{"target": "nobody", "offer": description("offer", "aaaa", "1")})
		ann.await("ended")
		ann.until("Bob in the list", func() bool {
			for _, e := range ann.inbox {
				for _, u := range e.list {
					if u.Name == name {
						is = u.ID
					}
				}
			}
			return is != ""
		})
		return is
	}
	if is := id("Bob"); !strings.HasPrefix(string(is), "n") {
		t.Errorf("Bob, who proves nothing, has the id %s", is)
	}
	// In a call he keeps his name for as long as the call waits for him.
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
	bob.cut()
	<-bob.ended
	eve := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, "")
	if e := eve.await("connect_error", "welcome"); e.data.Code != "name_taken" {
		t.Errorf("Eve as Bob, who is in a call: %+v", e)
	}
	back := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, `{"pid":"`+bob.pid+`"}`)
	back.await("welcome")
	back.emit("hangup", nil)
	if e := ann.await("ended"); e.Reason != "hungup" || e.By != "Bob" {
		t.Errorf("after his hang-up: %+v", e)
	}
	back.await("ended")

	// Out of a call the name is free when he counts as offline, and his secret is worth nothing then.
	back.cut()
	<-back.ended
	entered := func() *visitor {
		v := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, "")
		if v.await("connect_error", "welcome").event == "welcome" {
			return v
		}
		return nil
	}
	for deadline := time.Now().Add(patience); ; {
		if v := entered(); v != nil {
			if v.pid == bob.pid {
				t.Error("the session is Bob's")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the name is never free")
		}
		<-time.After(100 * time.Millisecond) // the server limits handshakes
	}
	late := connect(t, base, "websocket", url.Values{"username": {"Bob"}}, `{"pid":"`+bob.pid+`"}`)
	if e := late.await("connect_error", "welcome"); e.data.Code != "name_taken" {
		t.Errorf("Bob, late: %+v", e)
	}
}

func TestAConnectionIsTakenUpAgain(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	bob.emit("offer", dict{"target": "Ann", "offer": description("offer", "bbbb", "2")})
	ann.await("offer")
	ann.cut()
	<-ann.ended
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.2")})
	back := connect(t, base, "websocket", url.Values{"username": {"Ann"}}, `{"pid":"`+ann.pid+`"}`)
	back.await("welcome")
	if back.pid != ann.pid {
		t.Error("the session is another one")
	}
	back.emit("answer", dict{"target": "Bob", "answer": description("answer", "aaaa", "1")})
	bob.await("answer")
	back.await("candidate")
	if got := back.events(); slices.Contains(got, "ring") || slices.Contains(got, "error") {
		t.Errorf("the page that comes back gets %v", got)
	}

	// The server still takes the old connection for alive.
	moved := connect(t, base, "polling", url.Values{"username": {"Ann"}}, `{"pid":"`+ann.pid+`"}`)
	moved.await("welcome")
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.3")})
	moved.await("candidate")
	back.await("disconnect")

	// An old client does not know the secret.
	moved.cut() // by polling: the server knows
	<-moved.ended
	old := connect(t, base, "websocket", url.Values{"username": {"Ann"}}, "")
	if e := old.await("connect_error", "welcome"); e.data.Code != "name_taken" {
		t.Errorf("by name alone: %+v", e)
	}
	last := connect(t, base, "websocket", url.Values{"username": {"Ann"}}, `{"pid":"`+ann.pid+`"}`)
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.4")})
	last.await("candidate")

	last.send("41")
	if e := bob.await("ended"); e.Reason != "hungup" || e.By != "Ann" {
		t.Errorf("Ann disconnects: %+v", e)
	}
}

// Somebody else's secret is of no use.
func TestAForeignSecretTakesNothingUp(t *testing.T) {
	base := start(t)
	ann := enter(t, base, "websocket", "Ann")
	eve := connect(t, base, "websocket", url.Values{"username": {"Eve"}}, `{"pid":"`+ann.pid+`"}`)
	eve.await("welcome")
	if eve.pid == ann.pid {
		t.Error("Eve has Ann's session")
	}
	ann.emit("hangup", nil)
	ann.await("error")
}
