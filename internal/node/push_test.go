package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

// send is the status and body of a request with a JSON body.
func send(t *testing.T, method, url, token string, body any) (int, string) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(answer))
}

// rung is a phone's word on a call that it was pushed.
func rung(t *testing.T, url string, m *protocol.Push, act string) protocol.Push {
	t.Helper()
	status, body := send(t, http.MethodPost, url+"/v1/pushed", "", map[string]string{"call": string(m.Call), "key": m.Key, "act": act})
	var stands protocol.Push
	if err := json.Unmarshal([]byte(body), &stands); err != nil || status != http.StatusOK {
		t.Fatalf("pushed, %s: %d %s", act, status, body)
	}
	return stands
}

// gone waits until a user has no session, as somebody who comes sees it.
func gone(t *testing.T, url string, user protocol.UserID) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for i := 0; ; i++ {
		watcher := nodetest.Enter(t, url, fmt.Sprintf("Watcher %d", i))
		here := slices.ContainsFunc(watcher.Welcome.Users, func(u protocol.User) bool { return u.ID == user })
		watcher.Leave()
		if !here {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still here", user)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// meet is a short call of one user with another, who know each other from then on.
func meet(t *testing.T, caller, callee *nodetest.Client) {
	t.Helper()
	caller.Send(&protocol.Ring{To: callee.Welcome.User.ID})
	id := nodetest.Await[*protocol.Ring](callee).Call
	callee.Send(&protocol.Accept{Call: id})
	nodetest.Await[*protocol.Accept](caller)
	callee.Send(&protocol.Hangup{Call: id})
	nodetest.Await[*protocol.Ended](caller)
}

func TestAPhoneWithoutAPageIsRung(t *testing.T) {
	phone := nodetest.NewPhone(t)
	url := nodetest.Start(t, func(c *node.Config) { c.Push.Services = []string{phone.Service()} }).URL()
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	id := bob.Welcome.User.ID
	meet(t, ann, bob)

	if status, body := get(t, url+"/v1/push", nil); status != http.StatusOK || !strings.Contains(body, `{"key":"B`) {
		t.Fatalf("the key: %d %s", status, body)
	}
	if status, body := send(t, http.MethodPut, url+"/v1/push", bob.Welcome.Token, phone.Subscription()); status != http.StatusNoContent {
		t.Fatalf("subscribe: %d %s", status, body)
	}
	bob.Leave()
	gone(t, url, id)

	ann.Send(&protocol.Ring{Ref: "1", To: id, Video: true})
	if got := nodetest.Await[*protocol.Calling](ann).To; got != (protocol.User{ID: id, Name: "Bob", Presence: protocol.Offline}) {
		t.Errorf("Ann rings %+v", got)
	}
	m, header := phone.Pushed()
	if m.State != protocol.PushRinging || m.From.Name != "Ann" || !m.Video || m.RingMs < 50_000 || header.Get("Urgency") != "high" {
		t.Errorf("pushed %+v with %v", m, header)
	}
	if stands := rung(t, url, m, "ringing"); stands.State != protocol.PushRinging || stands.RingMs == 0 {
		t.Errorf("it stands %+v", stands)
	}
	nodetest.Await[*protocol.Ringing](ann)

	ann.Send(&protocol.Hangup{Call: m.Call})
	if got := nodetest.Await[*protocol.Ended](ann).Reason; got != protocol.ReasonCanceled {
		t.Errorf("it ended as %s", got)
	}
	missed, after := phone.Pushed()
	if missed.Call != m.Call || missed.State != protocol.PushMissed || after.Get("Topic") != header.Get("Topic") {
		t.Errorf("pushed %+v with %v", missed, after)
	}
	if stands := rung(t, url, m, "ringing"); stands.State != protocol.PushMissed {
		t.Errorf("late: it stands %+v", stands)
	}

	// The tap on the notification: a new session answers.
	ann.Send(&protocol.Ring{Ref: "2", To: id})
	m, _ = phone.Pushed()
	bob = nodetest.Hello(t, url, &protocol.Hello{Version: 1, Token: bob.Welcome.Token})
	if got := nodetest.Await[*protocol.Ring](bob).Call; got != m.Call {
		t.Errorf("Bob is rung for %s", got)
	}
	bob.Send(&protocol.Accept{Call: m.Call})
	nodetest.Await[*protocol.Accept](ann)
	if m, _ := phone.Pushed(); m.State != protocol.PushElsewhere {
		t.Errorf("pushed %+v", m)
	}

	if status, body := send(t, http.MethodDelete, url+"/v1/push", bob.Welcome.Token, phone.Subscription()); status != http.StatusNoContent {
		t.Fatalf("unsubscribe: %d %s", status, body)
	}
	bob.Leave()
	gone(t, url, id)
	nodetest.Await[*protocol.Ended](ann)
	ann.Send(&protocol.Ring{Ref: "3", To: id})
	if got := nodetest.Await[*protocol.Ended](ann).Reason; got != protocol.ReasonUnreachable {
		t.Errorf("without a device it ended as %s", got)
	}
}

// TestAPhoneRingsForNoStranger: somebody with a device and somebody who does not exist are the same to them.
func TestAPhoneRingsForNoStranger(t *testing.T) {
	phone := nodetest.NewPhone(t)
	url := nodetest.Start(t, func(c *node.Config) { c.Push.Services = []string{phone.Service()} }).URL()
	ann, bob, eve := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob"), nodetest.Enter(t, url, "Eve")
	id := bob.Welcome.User.ID
	if status, body := send(t, http.MethodPut, url+"/v1/push", bob.Welcome.Token, phone.Subscription()); status != http.StatusForbidden || !strings.Contains(body, `"no_call_yet"`) {
		t.Errorf("somebody who was in no call subscribes: %d %s", status, body)
	}
	// Bob rings Ann, who is not even asked, and knows her.
	bob.Send(&protocol.Ring{To: ann.Welcome.User.ID})
	bob.Send(&protocol.Hangup{Call: nodetest.Await[*protocol.Calling](bob).Call})
	nodetest.Await[*protocol.Ended](bob)
	if status, body := send(t, http.MethodPut, url+"/v1/push", bob.Welcome.Token, phone.Subscription()); status != http.StatusNoContent {
		t.Fatalf("subscribe: %d %s", status, body)
	}
	// Eve has rung him, and knows him; he does not know her.
	eve.Send(&protocol.Ring{To: id})
	if m, _ := phone.Pushed(); m.State != protocol.PushRinging || m.From.Name != "Eve" {
		t.Errorf("pushed %+v", m)
	}
	bob.Send(&protocol.Decline{Call: nodetest.Await[*protocol.Ring](bob).Call})
	nodetest.Await[*protocol.Ended](eve)
	if m, _ := phone.Pushed(); m.State != protocol.PushElsewhere {
		t.Errorf("pushed %+v", m)
	}
	bob.Leave()
	gone(t, url, id)

	for _, to := range []protocol.UserID{id, "unobody"} {
		eve.Send(&protocol.Ring{Ref: "1", To: to})
		if got := nodetest.Await[*protocol.Calling](eve).To; got != (protocol.User{ID: to, Presence: protocol.Offline}) {
			t.Errorf("Eve rings %+v", got)
		}
		if got := nodetest.Await[*protocol.Ended](eve).Reason; got != protocol.ReasonUnreachable {
			t.Errorf("Eve's call of %s ended as %s", to, got)
		}
	}
	ann.Send(&protocol.Ring{Ref: "1", To: id})
	if m, _ := phone.Pushed(); m.From.Name != "Ann" {
		t.Errorf("he is woken by %+v", m)
	}
}

// runNode runs a node until stop is called.
func runNode(t *testing.T, cfg node.Config) (url string, stop func()) {
	t.Helper()
	n, err := node.New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return n.URL(), func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("node: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
}

// TestAServerThatStartsAnewKnowsItsPhones stops a server while it rings.
func TestAServerThatStartsAnewKnowsItsPhones(t *testing.T) {
	phone := nodetest.NewPhone(t)
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Enabled, cfg.Data = free, false, t.TempDir()
	cfg.Push.Services = []string{phone.Service()}

	url, stop := runNode(t, cfg)
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	meet(t, ann, bob)
	if status, body := send(t, http.MethodPut, url+"/v1/push", bob.Welcome.Token, phone.Subscription()); status != http.StatusNoContent {
		t.Fatalf("subscribe: %d %s", status, body)
	}
	ann.Send(&protocol.Ring{Ref: "1", To: bob.Welcome.User.ID})
	if m, _ := phone.Pushed(); m.State != protocol.PushRinging {
		t.Errorf("pushed %+v", m)
	}
	stop()
	if m, _ := phone.Pushed(); m.State != protocol.PushEnded {
		t.Errorf("at the end pushed %+v", m)
	}

	url, stop = runNode(t, cfg)
	defer stop()
	ann = nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: ann.Welcome.Token})
	ann.Send(&protocol.Ring{Ref: "1", To: bob.Welcome.User.ID})
	if m, _ := phone.Pushed(); m.State != protocol.PushRinging || m.From.ID != ann.Welcome.User.ID {
		t.Errorf("after a restart pushed %+v", m)
	}
}

func TestPushCanBeOff(t *testing.T) {
	url := nodetest.Start(t, func(c *node.Config) { c.Push.Enabled = false }).URL()
	if status, _ := get(t, url+"/v1/push", nil); status != http.StatusNotFound {
		t.Errorf("the key: %d", status)
	}
}
