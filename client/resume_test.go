package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visavis/visavis/client"
	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

// TestALostConnectionLosesAndDoublesNothing cuts both parties' connections again and again while each sends to the other.
func TestALostConnectionLosesAndDoublesNothing(t *testing.T) {
	const messages, cuts = 50, 5
	var networks [2]network
	ann := enter(t, client.Config{Hello: guest("Ann who is cut"), Dial: networks[0].dial})
	bob := enter(t, client.Config{Hello: guest("Bob who is cut"), Dial: networks[1].dial})
	session := ann.Welcome().Session
	call := connected(t, ann, bob)
	var sending sync.WaitGroup
	defer sending.Wait()
	for i, c := range []*client.Client{ann, bob} {
		sending.Go(func() {
			for n := range messages {
				err := c.Send(&protocol.Candidates{Call: call, Candidates: []protocol.Candidate{{Candidate: fmt.Sprint(n)}}})
				if err != nil {
					t.Error(err)
				}
				if n%(messages/cuts) == i {
					networks[i].cut(false)
				}
				<-time.After(20 * time.Millisecond)
			}
		})
	}
	for _, c := range []*client.Client{ann, bob} {
		for n := range messages {
			if got := await[*protocol.Candidates](t, c).Candidates[0].Candidate; got != fmt.Sprint(n) {
				t.Fatalf("got message %s, want %d", got, n)
			}
		}
		// Whatever was doubled would come before the answer to this.
		send(t, c, &protocol.Ring{Ref: "last", To: c.Welcome().User.ID})
		for {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			m, err := c.Receive(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if again, ok := m.(*protocol.Candidates); ok {
				t.Fatalf("got message %s twice", again.Candidates[0].Candidate)
			}
			if refused, ok := m.(*protocol.Error); ok {
				if refused.Code != protocol.CodeSelf || refused.Ref != "last" {
					t.Fatalf("got %+v", refused)
				}
				break
			}
		}
	}
	if w := ann.Welcome(); !w.Resumed || w.Session != session {
		t.Errorf("Ann's last welcome: %+v", w)
	}
}

func TestWhatIsSentWithoutAConnectionArrives(t *testing.T) {
	var lost network
	ann := enter(t, client.Config{Hello: guest("Ann without"), Dial: lost.dial})
	bob := enter(t, client.Config{Hello: guest("Bob with")})
	call := connected(t, ann, bob)
	lost.cut(true)
	send(t, ann, &protocol.Hangup{Call: call})
	lost.cut(false)
	if got := await[*protocol.Ended](t, bob); got.Reason != protocol.ReasonHungup {
		t.Errorf("ended: %+v", got)
	}
	await[*protocol.Ended](t, ann)
}

// TestMoreThanIsKeptBeginsANewSession: the server must not act on a session with a gap.
func TestMoreThanIsKeptBeginsANewSession(t *testing.T) {
	var lost network
	ann := enter(t, client.Config{Hello: guest("Ann of many words"), Dial: lost.dial})
	before := ann.Welcome()
	lost.cut(true)
	for range 300 {
		send(t, ann, &protocol.Decline{Call: "n1-none"})
	}
	lost.cut(false)
	w := await[*protocol.Welcome](t, ann)
	if w.Resumed || w.Session == before.Session || w.User.ID != before.User.ID {
		t.Errorf("welcome: %+v, want a new session of %s", w, before.User.ID)
	}
	if w != ann.Welcome() {
		t.Error("Welcome is not the last")
	}
	send(t, ann, &protocol.Ring{Ref: "1", To: w.User.ID})
	if got := refusal(t, ann); got.Code != protocol.CodeSelf {
		t.Errorf("got %v, want %s", got, protocol.CodeSelf)
	}
}

// TestARestartedServer gives a client a new session, in which its numbers begin anew. The user is the same if the server kept
// their token, which it does once they were in a call.
func TestARestartedServer(t *testing.T) {
	data := t.TempDir()
	run := func() (addr string, stop func() error) {
		n, stop, err := nodetest.Run(slog.New(slog.NewTextHandler(t.Output(), nil)), func(cfg *node.Config) { cfg.Data = data })
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(n.URL(), "http://"), stop
	}
	addr, stop := run()
	ways := [3]network{{to: addr}, {to: addr}, {to: addr}}
	ann := enter(t, client.Config{Hello: guest("Ann"), Dial: ways[0].dial})
	bob := enter(t, client.Config{Hello: guest("Bob"), Dial: ways[1].dial})
	cid := enter(t, client.Config{Hello: guest("Cid"), Dial: ways[2].dial})
	before := map[*client.Client]protocol.UserID{}
	for _, c := range []*client.Client{ann, bob, cid} {
		before[c] = c.Welcome().User.ID
	}
	send(t, ann, &protocol.Hangup{Call: connected(t, ann, bob)})
	await[*protocol.Ended](t, bob)
	await[*protocol.Ended](t, ann)
	send(t, ann, &protocol.Prefer{WhenBusy: protocol.AnswerBusy, DoNotDisturb: true})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	addr, stop = run()
	defer func() {
		for c := range before {
			_ = c.Close()
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	for i := range ways {
		ways[i].mu.Lock()
		ways[i].to = addr
		ways[i].mu.Unlock()
	}
	for c, known := range map[*client.Client]bool{ann: true, bob: true, cid: false} {
		if w := await[*protocol.Welcome](t, c); w.Resumed || (w.User.ID == before[c]) != known {
			t.Errorf("welcome: %+v, want a new session, and %s known: %t", w, before[c], known)
		}
	}
	send(t, bob, &protocol.Ring{To: before[ann]})
	if got := await[*protocol.Ended](t, bob); got.Reason != protocol.ReasonBusy {
		t.Errorf("what Ann prefers was not told again: her call ended as %s", got.Reason)
	}
	send(t, ann, &protocol.Ring{To: before[bob]})
	await[*protocol.Ring](t, bob)
}

// TestASessionOfAnEarlierProcess goes on with its numbers.
func TestASessionOfAnEarlierProcess(t *testing.T) {
	var lost network
	first := enter(t, client.Config{Hello: guest("Ann again"), Dial: lost.dial, OneConnection: true})
	send(t, first, &protocol.Decline{Call: "n1-none"})
	if got := refusal(t, first); got.Call != "n1-none" {
		t.Errorf("got %+v", got)
	}
	lost.cut(true)
	ended(t, first)
	w := first.Welcome()
	again := enter(t, client.Config{Hello: protocol.Hello{Token: w.Token, Resume: w.Resume, Received: 1}})
	if got := again.Welcome(); !got.Resumed || got.Session != w.Session {
		t.Errorf("welcome: %+v", got)
	}
	send(t, again, &protocol.Ring{Ref: "2", To: w.User.ID})
	if got := refusal(t, again); got.Ref != "2" {
		t.Errorf("got %+v", got)
	}
}
