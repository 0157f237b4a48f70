package store_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/outbox"
	"github.com/visavis/visavis/internal/store"
	"github.com/visavis/visavis/protocol"
)

var begun = time.Now().Truncate(24 * time.Hour).UTC()

// login returns the n-th login of a user, used n minutes after begun.
func login(user protocol.User, n int) account.Login {
	at := begun.Add(time.Duration(n) * time.Minute)
	return account.Login{Hash: sha256.Sum256(fmt.Append(nil, user.ID, n)), User: user, CreatedAt: at, UsedAt: at}
}

// expectLogin checks what the store says of a login. want is nil if it should not have the login.
func expectLogin(t *testing.T, s *store.DB, what string, hash account.Hash, want *account.Login, wantOut bool) {
	t.Helper()
	got, found, out, err := s.Logins.Login(t.Context(), hash)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	case found != (want != nil), out != wantOut:
		t.Errorf("%s: found %v, signed out %v", what, found, out)
	case found:
		if diff := gocmp.Diff(*want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestLogins(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, reg := open(t, db)
		first, other := login(ann, 1), login(bob, 1)
		other.User.Name = "Bob\x00"
		expectLogin(t, s, "none", first.Hash, nil, false)
		if !s.Logins.KeepLogin(first) || !s.Logins.KeepLogin(other) {
			t.Error("there is no room")
		}
		expectLogin(t, s, "before it is written", first.Hash, &first, false)
		stop := run(t, s)
		other.User.Name = "Bob\uFFFD"
		written := func(n int) {
			t.Helper()
			eventually(t, fmt.Sprint(n, " logins are written"), func() bool {
				var rows int
				return db.side.QueryRow("SELECT count(*) FROM logins").Scan(&rows) == nil && rows == n
			})
		}
		written(2)
		expectLogin(t, s, "written", first.Hash, &first, false)
		expectLogin(t, s, "the other", other.Hash, &other, false)

		first.User.Name, first.UsedAt = "Annie", begun.Add(48*time.Hour)
		s.Logins.KeepLogin(first)
		stop() // which writes what waits
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s.Logins.KeepLogin(first) {
			t.Error("there is room after the end")
		}
		s, reg = open(t, db)
		expectLogin(t, s, "used again, after a restart", first.Hash, &first, false)

		exec(t, db.side, "ALTER TABLE logins RENAME TO logins_gone")
		run(t, s)
		third := login(ann, 3)
		s.Logins.KeepLogin(third)
		s.Records.Record(record(1, ann, bob))
		eventually(t, "three failures", func() bool { return metric(t, reg, "visavis_store_write_failures_total") >= 3 })
		if s.Failure() == nil {
			t.Error("the failure is not told")
		}
		expectLogin(t, s, "while the database fails", third.Hash, &third, false)
		if _, _, _, err := s.Logins.Login(t.Context(), first.Hash); err == nil {
			t.Error("a login that cannot be read is told as none")
		}
		exec(t, db.side, "ALTER TABLE logins_gone RENAME TO logins")
		written(3)
		settled(t, s)
	})
}

func TestSigningOut(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		mine, others := login(ann, 1), login(bob, 1)
		for _, l := range []account.Login{mine, others} {
			if err := s.Logins.AddLogin(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		device := func(user protocol.User) outbox.Device {
			at := time.Unix(1_790_000_000, 0).UTC()
			return outbox.Device{User: user, Endpoint: "https://p/" + string(user.ID), Key: []byte{1}, Auth: []byte{1}, CreatedAt: at, RenewedAt: at}
		}
		for _, user := range []protocol.User{ann, bob} {
			if err := s.Devices.Keep(t.Context(), device(user)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Logins.SignOut(t.Context(), ann.ID, begun); err != nil {
				t.Fatal(err)
			}
		}
		late := login(ann, 2)
		s.Logins.KeepLogin(late)
		expectLogin(t, s, "hers", mine.Hash, &mine, true)
		expectLogin(t, s, "one that was handed over meanwhile", late.Hash, &late, true)
		expectLogin(t, s, "another user's", others.Hash, &others, false)
		for user, want := range map[protocol.UserID]bool{ann.ID: true, bob.ID: false, "unobody": false} {
			if got, err := s.Logins.SignedOut(t.Context(), user); err != nil || got != want {
				t.Errorf("%s has signed out: %v, %v", user, got, err)
			}
		}
		devices, err := s.Devices.All(t.Context())
		if diff := gocmp.Diff([]outbox.Device{device(bob)}, devices); diff != "" || err != nil {
			t.Errorf("devices (-want +got), %v:\n%s", err, diff)
		}
	})
}

func TestOneUserHasABoundedNumberOfLogins(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		other := login(bob, 0)
		if err := s.Logins.AddLogin(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		for n := range 25 {
			if err := s.Logins.AddLogin(t.Context(), login(ann, n)); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 25 {
			if _, found, _, _ := s.Logins.Login(t.Context(), login(ann, n).Hash); found != (n >= 5) {
				t.Errorf("login %d is there: %v", n, found)
			}
		}
		expectLogin(t, s, "another user's", other.Hash, &other, false)
	})
}

func TestALoginExpires(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		now := time.Now()
		const day = 24 * time.Hour
		tx, err := db.side.Begin()
		if err != nil {
			t.Fatal(err)
		}
		for n := range 1200 { // more than one statement deletes
			l := login(protocol.User{ID: protocol.UserID(fmt.Sprint("u", n)), Name: "U"}, n)
			used := now.Add(-180*day - time.Hour).UnixMilli()
			_, err := tx.Exec("INSERT INTO logins (hash, user_id, user_name, created_at, used_at) VALUES ($1, $2, $3, $4, $5)",
				l.Hash[:], string(l.User.ID), l.User.Name, used, used)
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		fresh := login(ann, 1)
		fresh.UsedAt = now.Add(-179 * day).Truncate(time.Millisecond).UTC()
		if err := s.Logins.AddLogin(t.Context(), fresh); err != nil {
			t.Fatal(err)
		}
		for user, age := range map[protocol.UserID]time.Duration{"uold": 183 * day, "unew": 180 * day} {
			if err := s.Logins.SignOut(t.Context(), user, now.Add(-age)); err != nil {
				t.Fatal(err)
			}
		}
		count := func(table string) (n int) {
			_ = db.side.QueryRow("SELECT count(*) FROM " + table).Scan(&n)
			return n
		}
		if n := count("logins"); n != 1201 {
			t.Fatalf("%d logins are there at first", n)
		}
		run(t, s)
		eventually(t, "the old ones are deleted", func() bool { return count("logins") == 1 && count("sign_outs") == 1 })
		expectLogin(t, s, "a fresh one", fresh.Hash, &fresh, false)
		if out, err := s.Logins.SignedOut(t.Context(), "unew"); !out || err != nil {
			t.Errorf("a sign-out that a token may still need: %v, %v", out, err)
		}
	})
}

// TestAWriteEndsWithItsContext has another process lock the database. SQLite itself would wait for five seconds.
func TestAWriteEndsWithItsContext(t *testing.T) {
	db := newSQLite(t)
	s, _ := open(t, db)
	tx, err := db.side.Begin()
	if err == nil {
		_, err = tx.Exec("INSERT INTO sign_outs (user_id, at) VALUES ('x', 1)") // holds the lock
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(context.Context) error{
		"a sign-out": func(ctx context.Context) error { return s.Logins.SignOut(ctx, ann.ID, time.Now()) },
		"a login":    func(ctx context.Context) error { return s.Logins.AddLogin(ctx, login(ann, 1)) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		err := write(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 3*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Logins.SignOut(t.Context(), bob.ID, time.Now()); err != nil { // once those have given up
		t.Fatal(err)
	}
	if out, err := s.Logins.SignedOut(t.Context(), ann.ID); out || err != nil {
		t.Errorf("a sign-out that failed took place: %v, %v", out, err)
	}
}

// TestALoginIsOneIndexedRead checks that no query for a login reads a whole table.
func TestALoginIsOneIndexedRead(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		open(t, db)
		if !strings.HasPrefix(db.url, "sqlite:") {
			return // the planner of PostgreSQL prefers to read a small table whole
		}
		for _, query := range []string{
			"SELECT user_id, EXISTS (SELECT 1 FROM sign_outs WHERE sign_outs.user_id = logins.user_id) FROM logins WHERE hash = x'00'",
			"SELECT EXISTS (SELECT 1 FROM acquaintances WHERE user_id = 'u')",
			"SELECT hash FROM logins WHERE used_at <= 7 ORDER BY used_at LIMIT 500",
			"SELECT hash FROM logins WHERE user_id = 'u' ORDER BY used_at DESC LIMIT 20",
			"DELETE FROM sign_outs WHERE at <= 7",
		} {
			for _, step := range plan(t, db.side, query) {
				if strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "CONSTANT") || strings.Contains(step, "TEMP B-TREE") {
					t.Errorf("%s: %s", query, step)
				}
			}
		}
	})
}

// plan returns the steps of SQLite's plan for a query.
func plan(t *testing.T, db *sql.DB, query string) (steps []string) {
	t.Helper()
	rows, err := db.Query("EXPLAIN QUERY PLAN " + query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil || len(steps) == 0 {
		t.Fatalf("no plan: %v", err)
	}
	return steps
}
