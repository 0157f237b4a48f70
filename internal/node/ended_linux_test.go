package node_test

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

// killed is a copy of a data directory as a server leaves it that is killed now.
func killed(t *testing.T, data string) string {
	t.Helper()
	left := t.TempDir()
	err := filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		// SQLite makes its index of the log anew.
		if err != nil || entry.IsDir() || strings.HasSuffix(path, "-shm") || entry.Name() == "filler" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(left, entry.Name()), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// locked keeps a database from taking writes until the test ends.
func locked(t *testing.T, data string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "visavis.db")+"?_txlock=immediate&_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
}

// filled leaves no room on the file system of a data directory.
func filled(t *testing.T, data string) {
	t.Helper()
	filler, err := os.Create(filepath.Join(data, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filler.Close() })
	for block := make([]byte, 4096); err == nil; {
		_, err = filler.Write(block)
	}
}

// small is a directory of a file system with room for little more than a data directory.
func small(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a file system: %v", err)
		}
		t.Skipf("mounting a file system takes privileges: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// TestAnEndedCallStaysEnded: a call ends while the database takes no writes, and the
// server is killed as soon as both have heard of the end. At the next server both are
// free, the call's ticket is worth nothing, and the record says how it ended.
func TestAnEndedCallStaysEnded(t *testing.T) {
	for name, failing := range map[string]struct {
		data func(*testing.T) string
		fail func(*testing.T, string)
	}{
		"the database is locked": {func(t *testing.T) string { return t.TempDir() }, locked},
		"the disk is full":       {small, filled},
	} {
		t.Run(name, func(t *testing.T) {
			data := failing.data(t)
			url := nodetest.Start(t, func(cfg *node.Config) { cfg.Data = data }).URL()
			ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
			id, ticket := talk(t, ann, bob)
			recorded(t, data, id)
			failing.fail(t, data)
			ann.Send(&protocol.Hangup{Call: id})
			nodetest.Await[*protocol.Ended](ann)
			nodetest.Await[*protocol.Ended](bob)

			left := killed(t, data)
			url = nodetest.Start(t, func(cfg *node.Config) { cfg.Data = left }).URL()
			back := func(c *nodetest.Client) *nodetest.Client {
				return nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: c.Welcome.Token, Presence: true})
			}
			annAgain, bobAgain := back(ann), back(bob)
			cid := nodetest.Enter(t, url, "Cid")
			for _, user := range cid.Welcome.Users {
				if user.Presence != protocol.Online {
					t.Errorf("%s is %s, want online", user.Name, user.Presence)
				}
			}
			annAgain.Send(&protocol.Rejoin{Ticket: ticket, Call: id})
			if e := nodetest.Await[*protocol.Error](annAgain); e.Code != protocol.CodeUnknownCall {
				t.Errorf("the ticket of the ended call: %v, want unknown_call", e)
			}
			annAgain.Send(&protocol.Ring{Ref: "2", To: bobAgain.Welcome.User.ID})
			if ring := nodetest.Await[*protocol.Ring](bobAgain); ring.From.ID != annAgain.Welcome.User.ID {
				t.Errorf("Bob is rung by %v", ring.From)
			}
			if got := calls(t, url, annAgain.Welcome.Token, 1); len(got.Calls) != 1 || got.Calls[0].Reason != "hungup" {
				t.Errorf("records: %+v, want one that says hungup", got)
			}
		})
	}
}

// TestCredentialsOfAnEndedCallStayDead: they are good for an hour by their date. After a restart neither the server's
// own relay nor one that stands alone takes them for a call that has ended.
func TestCredentialsOfAnEndedCallStayDead(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("alone=%v", alone), func(t *testing.T) {
			data := t.TempDir()
			// begin starts a server, and a relay that does not remember either.
			begin := func(data string) (url string, relayAt func(*nodetest.Client) string) {
				if alone {
					l := standAlone(t, "127.0.0.1:0", nil)
					n := nodetest.Start(t, toldTo(l, data))
					linked(t, n, l, 1)
					return n.URL(), func(*nodetest.Client) string { return l.address }
				}
				url = nodetest.Start(t, func(cfg *node.Config) { cfg.Data, cfg.Relay.Secret = data, shared }).URL()
				return url, func(c *nodetest.Client) string {
					return strings.TrimPrefix(c.Welcome.ICEServers[0].URLs[0], "stun:")
				}
			}
			url, _ := begin(data)
			ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
			id, _ := talk(t, ann, bob)
			ann.Send(&protocol.Hangup{Call: id})
			nodetest.Await[*protocol.Ended](bob)
			recorded(t, data, id)

			url, relayAt := begin(killed(t, data))
			back := nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: ann.Welcome.Token})
			l := &lone{address: relayAt(back)}
			refused := func(call protocol.CallID) bool {
				_, _, err := allocate(t, l.servers(call, ann.Welcome.User.ID))
				var turnError *stun.TurnError
				if err != nil && (!errors.As(err, &turnError) || turnError.ErrorCodeAttr.Code != stun.CodeForbidden) {
					t.Fatal(err)
				}
				return err != nil
			}
			if refused(id + "x") {
				t.Error("credentials of another call are refused: this shows nothing")
			}
			eventually(t, "the credentials of the ended call are refused", func() bool { return refused(id) })
		})
	}
}

// recorded waits until the database has the accept of a call.
func recorded(t *testing.T, data string, id protocol.CallID) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "visavis.db")+"?_query_only=true&_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	eventually(t, "the database has the call, and the tokens of its parties", func() bool {
		var there bool
		err := db.QueryRowContext(t.Context(),
			`SELECT EXISTS (SELECT 1 FROM calls WHERE id = $1) AND (SELECT count(*) FROM logins) >= 2`, id).Scan(&there)
		return err == nil && there
	})
}

// TestAPartyOfARestoredCallIsFree: after a restart in the middle of a call, one who does
// not come back is rung like anybody, and never put back into the call by the other one.
func TestAPartyOfARestoredCallIsFree(t *testing.T) {
	data := t.TempDir()
	url := nodetest.Start(t, func(cfg *node.Config) { cfg.Data = data }).URL()
	ann, bob := nodetest.Enter(t, url, "Ann"), nodetest.Enter(t, url, "Bob")
	id, ticket := talk(t, ann, bob)
	recorded(t, data, id)

	left := killed(t, data)
	url = nodetest.Start(t, func(cfg *node.Config) { cfg.Data = left }).URL()
	back := func(c *nodetest.Client) *nodetest.Client {
		return nodetest.Hello(t, url, &protocol.Hello{Version: protocol.Version, Token: c.Welcome.Token, Presence: true})
	}
	annAgain, bobAgain := back(ann), back(bob)
	annAgain.Send(&protocol.Rejoin{Ticket: ticket, Call: id})
	if m := nodetest.Await[*protocol.Rejoin](annAgain); !m.Active {
		t.Errorf("Ann is back in %+v", m)
	}
	annAgain.Send(&protocol.Ring{Ref: "2", To: bobAgain.Welcome.User.ID})
	if ended := nodetest.Await[*protocol.Ended](annAgain); ended.Call != id || ended.Reason != protocol.ReasonMigrated {
		t.Errorf("the call before ended as %+v", ended)
	}
	ring := nodetest.Await[*protocol.Ring](bobAgain)
	bobAgain.Send(&protocol.Decline{Call: ring.Call})
	if ended := nodetest.Await[*protocol.Ended](annAgain); ended.Reason != protocol.ReasonDeclined {
		t.Errorf("Bob declines: %+v", ended)
	}
	if status, _ := get(t, url+"/healthz", http.Header{}); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
}
