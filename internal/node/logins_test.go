package node_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

// inDatabase does something with the database of a node past it.
func inDatabase(t *testing.T, data string, do func(*sql.DB) error) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "visavis.db")+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := do(db); err != nil {
		t.Fatal(err)
	}
}

// refusedHello says hello, and is what the server answers and closes with.
func refusedHello(t *testing.T, url string, hello *protocol.Hello) (protocol.Code, protocol.CloseCode) {
	t.Helper()
	hello.Version = protocol.Version
	return closedAfter(t, url, string(protocol.Encode(hello)))
}

func startIn(t *testing.T, data string) (url string) {
	t.Helper()
	return nodetest.Start(t, func(c *node.Config) { c.Data = data }).URL()
}

// TestGuestsAreThemselvesAfterARestart: those who were in a call, or missed one. Of the others the
// server that begins anew knows nothing.
func TestGuestsAreThemselvesAfterARestart(t *testing.T) {
	data := t.TempDir()
	var ann, bob, eve *protocol.Welcome
	t.Run("before", func(t *testing.T) {
		url := startIn(t, data)
		a, b, e := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob"), nodetest.Enter(t, url, "Eve")
		a.Send(&protocol.Ring{To: b.Welcome.User.ID})
		a.Send(&protocol.Hangup{Call: nodetest.Await[*protocol.Calling](a).Call})
		nodetest.Await[*protocol.Ended](b)
		ann, bob, eve = a.Welcome, b.Welcome, e.Welcome
	})
	inDatabase(t, data, func(db *sql.DB) error {
		var n int
		err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM logins").Scan(&n)
		if n != 2 {
			t.Errorf("%d logins are kept, want two", n)
		}
		return err
	})
	url := startIn(t, data)
	for _, before := range []*protocol.Welcome{ann, bob} {
		again := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: before.Token}).Welcome
		if again.User.ID != before.User.ID || again.User.Name != before.User.Name || again.Token != before.Token {
			t.Errorf("%s is %+v with the token %s", before.User.Name, again.User, again.Token)
		}
	}
	if got := calls(t, url, bob.Token, 1).Calls; len(got) != 1 || !got[0].Missed {
		t.Errorf("Bob's calls: %+v", got)
	}
	if code, closed := refusedHello(t, url, &protocol.Hello{Name: "Eve", Token: eve.Token}); code != protocol.CodeUnauthorized || closed != protocol.CloseRefused {
		t.Errorf("Eve, who was in no call: %s, %d", code, closed)
	}
	if again := nodetest.Enter(t, url, "Eve").Welcome; again.User.Name != "Eve" {
		t.Errorf("Eve by her name: %+v", again.User)
	}
}

// TestATokenOfAnOlderVersion: its guest is the same after the update, and has the same calls.
func TestATokenOfAnOlderVersion(t *testing.T) {
	data := t.TempDir()
	t.Run("makes the tables", func(t *testing.T) { startIn(t, data) })
	key := []byte("0123456789abcdef0123456789abcdef")
	inDatabase(t, data, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "INSERT INTO secrets (name, value, made_at) VALUES ('guests', $1, 1)", key)
		return err
	})
	payload := fmt.Sprintf("g1.uann.%s.%d", base64.RawURLEncoding.EncodeToString([]byte("Ann")), time.Now().Add(time.Hour).Unix())
	h := hmac.New(sha256.New, key)
	h.Write([]byte("visavis guest token\n" + payload))
	old := payload + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))

	var fresh string
	t.Run("the first server of this version", func(t *testing.T) {
		url := startIn(t, data)
		ann := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: old}).Welcome
		fresh = ann.Token
		if ann.User.ID != "uann" || ann.User.Name != "Ann" || !strings.HasPrefix(fresh, "g2.") {
			t.Fatalf("Ann is %+v with the token %s", ann.User, fresh)
		}
	})
	url := startIn(t, data)
	for _, token := range []string{fresh, old} {
		if ann := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: token}).Welcome; ann.User.ID != "uann" {
			t.Errorf("with %s Ann is %+v", token, ann.User)
		}
	}
	if status, body := send(t, http.MethodDelete, url+"/v1/logins", fresh, nil); status != http.StatusNoContent {
		t.Fatalf("sign out: %d %s", status, body)
	}
	if code, _ := refusedHello(t, url, &protocol.Hello{Token: old}); code != protocol.CodeSignedOut {
		t.Errorf("the old one after she has signed out: %s", code)
	}
}

// TestSigningOutEverywhere: no token of the user is good from then on, whatever becomes of the server.
func TestSigningOutEverywhere(t *testing.T) {
	data := t.TempDir()
	phone := nodetest.NewPhone(t)
	var ann *protocol.Welcome
	t.Run("before", func(t *testing.T) {
		url := nodetest.Start(t, func(c *node.Config) { c.Data, c.Push.Services = data, []string{phone.Service()} }).URL()
		a, b := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
		ann = a.Welcome
		laptop := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: ann.Token})
		meet(t, a, b)
		nodetest.Await[*protocol.Ended](b)
		if status, body := send(t, http.MethodPut, url+"/v1/push", ann.Token, phone.Subscription()); status != http.StatusNoContent {
			t.Fatalf("subscribe: %d %s", status, body)
		}
		a.Send(&protocol.Ring{Ref: "2", To: b.Welcome.User.ID})
		nodetest.Await[*protocol.Ring](b)

		if status, _ := send(t, http.MethodDelete, url+"/v1/logins", "g2.AAAAAAAAAAAAAAAAAAAAAAAAAA", nil); status != http.StatusUnauthorized {
			t.Errorf("with the token of nobody: %d", status)
		}
		if status, _ := send(t, http.MethodGet, url+"/v1/logins", ann.Token, nil); status != http.StatusMethodNotAllowed {
			t.Errorf("GET: %d", status)
		}
		if status, body := send(t, http.MethodDelete, url+"/v1/logins", ann.Token, nil); status != http.StatusNoContent {
			t.Fatalf("sign out: %d %s", status, body)
		}
		if one, other := a.Closed(), laptop.Closed(); one != protocol.CloseSignedOut || other != protocol.CloseSignedOut {
			t.Errorf("closed with %d and %d", one, other)
		}
		if ended := nodetest.Await[*protocol.Ended](b); ended.Reason != protocol.ReasonCanceled {
			t.Errorf("what rang ended as %s", ended.Reason)
		}
		signedOut(t, url, ann)
		if other := nodetest.Enter(t, url, "Ann").Welcome; other.User.ID == ann.User.ID {
			t.Error("who comes in by her name is her")
		}
		b.Send(&protocol.Ring{Ref: "3", To: ann.User.ID})
		if got := nodetest.Await[*protocol.Ended](b).Reason; got != protocol.ReasonUnreachable {
			t.Errorf("a call of who has gone ended as %s", got)
		}
	})
	signedOut(t, startIn(t, data), ann)
}

// signedOut expects a token to be void, and its client to hear why.
func signedOut(t *testing.T, url string, who *protocol.Welcome) {
	t.Helper()
	hello := &protocol.Hello{Name: who.User.Name, Token: who.Token, Resume: who.Resume}
	if code, closed := refusedHello(t, url, hello); code != protocol.CodeSignedOut || closed != protocol.CloseRefused {
		t.Errorf("hello: %s, %d", code, closed)
	}
	for _, request := range [][2]string{{http.MethodGet, "/v1/calls"}, {http.MethodDelete, "/v1/logins"}} {
		if status, body := send(t, request[0], url+request[1], who.Token, nil); status != http.StatusUnauthorized || !strings.Contains(body, `"signed_out"`) {
			t.Errorf("%s %s: %d %s", request[0], request[1], status, body)
		}
	}
}

// TestComingInWhileSigningOut: however the two meet, nobody is in with a void token.
func TestComingInWhileSigningOut(t *testing.T) {
	url := nodetest.Start(t, nil).URL()
	for i := range 20 {
		name := fmt.Sprint("Ann ", i)
		ann := nodetest.Enter(t, url, name)
		var all sync.WaitGroup
		var late protocol.CloseCode
		all.Go(func() {
			hello := protocol.Encode(&protocol.Hello{Version: protocol.Version, Token: ann.Welcome.Token})
			_, late = closedAfter(t, url, string(hello))
		})
		if status, body := send(t, http.MethodDelete, url+"/v1/logins", ann.Welcome.Token, nil); status != http.StatusNoContent {
			t.Fatalf("sign out: %d %s", status, body)
		}
		all.Wait()
		if late != protocol.CloseSignedOut && late != protocol.CloseRefused && late != protocol.CloseFull {
			t.Errorf("closed with %d", late)
		}
		nodetest.Enter(t, url, name).Leave()
	}
}

// TestATokenThatCannotBeRead: who is here comes back all the same. Others are told to try again, soon, and
// keep their tokens.
func TestATokenThatCannotBeRead(t *testing.T) {
	data := t.TempDir()
	var ann *protocol.Welcome
	t.Run("before", func(t *testing.T) {
		url := startIn(t, data)
		a := nodetest.Enter(t, url, "Ann")
		meet(t, a, nodetest.Enter(t, url, "Bob"))
		ann = a.Welcome
	})
	url := startIn(t, data)
	cid := nodetest.Enter(t, url, "Cid")
	inDatabase(t, data, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "ALTER TABLE logins RENAME TO gone")
		return err
	})
	began := time.Now()
	if code, closed := refusedHello(t, url, &protocol.Hello{Name: "Ann", Token: ann.Token}); code != protocol.CodeUnavailable || closed != protocol.CloseFull {
		t.Errorf("Ann: %s, %d", code, closed)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("she is told after %v", took)
	}
	if status, body := get(t, url+"/v1/calls", http.Header{"Authorization": {"Bearer " + ann.Token}}); status != http.StatusServiceUnavailable || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("her calls: %d %s", status, body)
	}
	cid.Cut()
	back := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: cid.Welcome.Token, Resume: cid.Welcome.Resume})
	if !back.Welcome.Resumed {
		t.Error("Cid's session is not resumed")
	}
	inDatabase(t, data, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "ALTER TABLE gone RENAME TO logins")
		return err
	})
	if again := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: ann.Token}).Welcome; again.User.ID != ann.User.ID {
		t.Errorf("Ann is %+v", again.User)
	}
}
