package account

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/protocol"
)

// signed is a token as older versions made it.
func signed(u protocol.User, expires time.Time) string {
	payload := strings.Join([]string{
		"g1", string(u.ID), base64.RawURLEncoding.EncodeToString([]byte(u.Name)), strconv.FormatInt(expires.Unix(), 10),
	}, ".")
	return payload + "." + mac([]byte("secret"), payload)
}

func enter(t *testing.T, g *guestsWithSessions, name, secret string) (protocol.User, string) {
	t.Helper()
	user, fresh, refused := g.Enter(t.Context(), name, secret, now)
	if refused != nil {
		t.Fatalf("%s does not come in: %v", name, refused)
	}
	return user, fresh
}

func TestTokens(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	ann, token := enter(t, g, "Ann", "")
	g.Keep(ann.ID)
	old := signed(protocol.User{ID: "uold", Name: "Old"}, now.Add(time.Hour))
	for name, bad := range map[string]string{
		"garbage": "garbage", "empty": "", "empty parts": "....", "cut": token[:len(token)-1], "changed": "g3" + token[2:],
		"only a version": "g2.", "the hash": fmt.Sprintf("g2.%x", hashOf(token)), "another id": strings.Replace(old, "g1.u", "g1.v", 1),
		"an old one that was cut": old[:len(old)-1], "an old one of another version": "g2" + old[2:],
		"an old one that was signed after the update": signed(protocol.User{ID: "uold", Name: "Old"}, now.Add(LoginAge+time.Second)),
		"an old one that has expired":                 signed(protocol.User{ID: "uold", Name: "Old"}, now),
	} {
		if _, err := g.Who(t.Context(), bad, now); code(err) != protocol.CodeUnauthorized {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := g.Enter(t.Context(), "Bob", bad, now); bad != "" && code(err) != protocol.CodeUnauthorized {
			t.Errorf("%s, enter: %v", name, err)
		}
	}
	fresh, err := NewGuests(Config{Logins: db, Sessions: g.sessions, SignedUntil: now, Log: g.cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	forged := old[:strings.LastIndexByte(old, '.')]
	if _, err := fresh.Who(t.Context(), forged+"."+mac(nil, forged), now); code(err) != protocol.CodeUnauthorized {
		t.Errorf("an old one where no key is: %v", err)
	}
	if len(token) < len("g2.")+26 {
		t.Errorf("%s has less than 128 random bits", token)
	}
	for h := range db.logins {
		if strings.Contains(string(h[:]), token) {
			t.Error("the database has a token as it is")
		}
	}
}

// Nothing of a guest who was in no call is in the database. The others are themselves after a restart.
func TestOnlyWhoWasInACallIsKept(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	ann, annToken := enter(t, g, "Ann", "")
	_, eveToken := enter(t, g, "Eve", "")
	if len(db.logins) != 0 {
		t.Fatalf("%d guests who have only come in are kept", len(db.logins))
	}
	g.Keep(ann.ID)
	g.Keep(ann.ID)
	g.Keep("unobody")
	if again, fresh := enter(t, g, "Annie", annToken); again.ID != ann.ID || fresh != annToken {
		t.Errorf("Ann comes again as %+v with %s, want the same token", again, fresh)
	}
	if len(db.logins) != 1 {
		t.Errorf("%d are kept, want Ann", len(db.logins))
	}

	g = newGuests(t, db)
	if again, _ := enter(t, g, "", annToken); again.ID != ann.ID || again.Name != "Annie" {
		t.Errorf("after a restart Ann is %+v", again)
	}
	if _, _, err := g.Enter(t.Context(), "Eve", eveToken, now); code(err) != protocol.CodeUnauthorized {
		t.Errorf("after a restart Eve comes in by her token: %v", err)
	}
	enter(t, g, "Eve", "")
}

// A login that the database had no room for is handed over again.
func TestAKeptLoginThatFoundNoRoom(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	ann, _ := enter(t, g, "Ann", "")
	db.full = true
	g.Keep(ann.ID)
	db.full = false
	g.Keep(ann.ID)
	if len(db.logins) != 1 {
		t.Errorf("%d are kept, want Ann", len(db.logins))
	}
}

func TestATokenExpiresAfterItsLastUse(t *testing.T) {
	db := newFakeLogins()
	ann, token := enter(t, newGuests(t, db), "Ann", "")
	db.logins[hashOf(token)] = Login{Hash: hashOf(token), User: ann, CreatedAt: now, UsedAt: now}
	who := func(after time.Duration) protocol.Code {
		_, err := newGuests(t, db).Who(t.Context(), token, now.Add(after))
		return code(err)
	}
	if got := who(LoginAge); got != protocol.CodeUnauthorized {
		t.Errorf("180 days later: %q", got)
	}
	if got := who(LoginAge - time.Hour); got != "" {
		t.Errorf("before that: %q", got)
	}
	if got := who(LoginAge + time.Hour); got != "" {
		t.Errorf("180 days later, used in between: %q", got)
	}
	g := newGuests(t, db)
	if _, err := g.Who(t.Context(), token, now.Add(LoginAge)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Who(t.Context(), token, now.Add(3*LoginAge)); code(err) != protocol.CodeUnauthorized {
		t.Errorf("one that memory has: %v", err)
	}
}

// A token of an older version stays good until it expires, for a page whose welcome was lost.
func TestASignedTokenIsExchanged(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	old := signed(protocol.User{ID: "uann", Name: "Ann"}, now.Add(time.Hour))
	ann, fresh := enter(t, g, "", old)
	if ann.ID != "uann" || ann.Name != "Ann" || !strings.HasPrefix(fresh, "g2.") || len(db.logins) != 1 {
		t.Fatalf("Ann is %+v with %s, and %d logins are kept", ann, fresh, len(db.logins))
	}
	if who, err := g.Who(t.Context(), old, now); err != nil || who.ID != "uann" {
		t.Errorf("the old one: %+v, %v", who, err)
	}
	if _, err := g.Who(t.Context(), old, now.Add(time.Hour)); code(err) != protocol.CodeUnauthorized {
		t.Errorf("the old one after its time: %v", err)
	}
	g = newGuests(t, db)
	if again, token := enter(t, g, "", fresh); again != ann || token != fresh {
		t.Errorf("after a restart Ann is %+v with %s", again, token)
	}
	for range 3 * maxHeld {
		enter(t, g, "", old)
	}
	if n := len(g.byID["uann"].tokens); n != maxHeld {
		t.Errorf("%d tokens are held for her, want %d", n, maxHeld)
	}

	db.fails = true
	if again, token := enter(t, g, "", old); again != ann || token != old {
		t.Errorf("while the database fails Ann is %+v, and gets %s instead of her token", again, token)
	}
}

// Those who are here, or were of late, come in without the database. The others hear that it is
// the server's fault, within a moment, and keep their tokens.
func TestWhileTheDatabaseFails(t *testing.T) {
	for name, fail := range map[string]func(*fakeLogins){
		"fails": func(s *fakeLogins) { s.fails = true },
		"hangs": func(s *fakeLogins) { s.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := newFakeLogins()
				before := newGuests(t, db)
				_, annToken := enter(t, before, "Ann", "")
				bob, bobToken := enter(t, before, "Bob", "")
				cid, cidToken := enter(t, before, "Cid", "")
				before.Keep(bob.ID)
				before.Keep(cid.ID)
				old := signed(protocol.User{ID: "uold", Name: "Old"}, now.Add(time.Hour))

				g := newGuests(t, db)
				here, token := enter(t, g, "Here", "")
				enter(t, g, "", bobToken)
				g.Leave(bob.ID)
				db.set(func() { fail(db) })
				began := time.Now()
				for what, secret := range map[string]string{"a stranger": annToken, "Cid": cidToken, "an old token": old} {
					if _, _, err := g.Enter(t.Context(), what, secret, now); code(err) != protocol.CodeUnavailable {
						t.Errorf("%s: %v, want unavailable", what, err)
					}
					if _, err := g.Who(t.Context(), secret, now); code(err) != protocol.CodeUnavailable {
						t.Errorf("%s asks: %v, want unavailable", what, err)
					}
				}
				if took := time.Since(began); took > 6*patience {
					t.Errorf("six answers took %v", took)
				}
				if _, err := g.Who(t.Context(), "g2.", now); err == nil {
					t.Error("a token of nobody is taken")
				}
				began = time.Now()
				if again, _ := enter(t, g, "", token); again != here {
					t.Errorf("one who is here comes again as %+v", again)
				}
				if again, _ := enter(t, g, "", bobToken); again.ID != bob.ID {
					t.Errorf("Bob, who was here, comes in as %+v", again)
				}
				enter(t, g, "Newcomer", "")
				if took := time.Since(began); took > 0 {
					t.Errorf("that took %v", took)
				}
				db.set(func() { db.fails, db.hangs = false, false })
				if again, _ := enter(t, g, "", cidToken); again.ID != cid.ID {
					t.Errorf("Cid comes in later as %+v", again)
				}
			})
		})
	}
}

// However many come and go, those who were in no call take up a bounded room, and push nobody else out of it.
func TestStrangersTakeUpABoundedRoom(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	bob, bobToken := enter(t, g, "Bob", "")
	g.Keep(bob.ID)
	g.Leave(bob.ID)
	_, hereToken := enter(t, g, "Here", "")
	var last string
	for i := range maxStrangers + 1000 {
		u, token := enter(t, g, fmt.Sprint("Eve ", i), "")
		g.Leave(u.ID)
		last = token
	}
	if n := len(g.tokens.byHash); n != maxStrangers+2 {
		t.Errorf("%d tokens are in memory, want %d", n, maxStrangers+2)
	}
	if n := len(g.tokens.byUser); n != maxStrangers+2 {
		t.Errorf("of %d users, want %d", n, maxStrangers+2)
	}
	if len(db.logins) != 1 {
		t.Errorf("%d logins are kept, want Bob's", len(db.logins))
	}
	db.fails = true
	for name, token := range map[string]string{"Bob": bobToken, "the one who is here": hereToken, "the last": last} {
		if _, err := g.Who(t.Context(), token, now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSigningOut(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	old := signed(protocol.User{ID: "uann", Name: "Ann"}, now.Add(time.Hour))
	ann, token := enter(t, g, "", old)
	refused := func(what string, g *guestsWithSessions, later time.Duration) {
		t.Helper()
		for name, secret := range map[string]string{"the token": token, "the old one": old} {
			if _, err := g.Who(t.Context(), secret, now.Add(later)); code(err) != protocol.CodeSignedOut {
				t.Errorf("%s, %s: %v, want signed_out", what, name, err)
			}
			if _, _, err := g.Enter(t.Context(), "Ann", secret, now.Add(later)); code(err) != protocol.CodeSignedOut {
				t.Errorf("%s, %s, enter: %v, want signed_out", what, name, err)
			}
		}
	}

	db.fails = true
	if err := g.SignOut(t.Context(), ann.ID, now); code(err) != protocol.CodeUnavailable {
		t.Errorf("while the database fails: %v", err)
	}
	if _, err := g.Who(t.Context(), token, now); err != nil || g.SignedOut(ann.ID) {
		t.Errorf("after that her token: %v", err)
	}
	db.fails = false
	if err := g.SignOut(t.Context(), ann.ID, now); err != nil {
		t.Fatal(err)
	}
	if !g.SignedOut(ann.ID) {
		t.Error("she is not known to have signed out")
	}
	refused("at once", g, 0)
	g.Keep(ann.ID)
	g.Leave(ann.ID)
	other, _ := enter(t, g, "Ann", "")
	if other.ID == ann.ID {
		t.Error("who comes by her name is her")
	}
	g.Leave(other.ID)
	_ = g.SignOut(t.Context(), other.ID, now.Add(2*leftFor)) // forgets what was of late
	refused("later", g, 2*leftFor)
	refused("after a restart", newGuests(t, db), 0)
}

// A stranger who signs out costs no row, either.
func TestAStrangerSignsOut(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	eve, token := enter(t, g, "Eve", "")
	if err := g.SignOut(t.Context(), eve.ID, now); err != nil {
		t.Fatal(err)
	}
	g.Keep(eve.ID)
	if len(db.out)+len(db.logins) != 0 {
		t.Errorf("the database has %v, %v", db.out, db.logins)
	}
	if _, err := g.Who(t.Context(), token, now); err == nil {
		t.Error("her token is good")
	}
}

// While the database takes note of it the user is told to wait: it may fail yet.
func TestComingInDuringASignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeLogins()
		g := newGuests(t, db)
		ann, token := enter(t, g, "Ann", "")
		g.Keep(ann.ID)
		db.set(func() { db.hangs = true })
		ended := make(chan *protocol.Error)
		go func() { ended <- g.SignOut(t.Context(), ann.ID, now) }()
		synctest.Wait()
		if _, _, err := g.Enter(t.Context(), "Ann", token, now); code(err) != protocol.CodeUnavailable {
			t.Errorf("meanwhile: %v, want unavailable", err)
		}
		if err := <-ended; code(err) != protocol.CodeUnavailable {
			t.Errorf("it ends with %v", err)
		}
		if again, _ := enter(t, g, "Ann", token); again.ID != ann.ID {
			t.Errorf("Ann is %+v afterwards", again)
		}
	})
}

// A read that began before the user signed out does not bring the token back to memory.
func TestAReadThatIsOvertakenByASignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeLogins()
		before := newGuests(t, db)
		ann, token := enter(t, before, "Ann", "")
		before.Keep(ann.ID)
		g := newGuests(t, db)
		g.cfg.Logins = staleLogins{db}
		refused := make(chan *protocol.Error)
		go func() {
			_, _, err := g.Enter(t.Context(), "Ann", token, now)
			refused <- err
		}()
		synctest.Wait()
		if err := g.SignOut(t.Context(), ann.ID, now); err != nil {
			t.Fatal(err)
		}
		if err := <-refused; code(err) != protocol.CodeSignedOut {
			t.Errorf("she comes in: %v", err)
		}
		if len(g.tokens.byHash) != 0 {
			t.Error("her token is in memory")
		}
	})
}

// staleLogins answers late, with what was true when it was asked.
type staleLogins struct{ *fakeLogins }

func (s staleLogins) Login(ctx context.Context, h Hash) (Login, bool, bool, error) {
	l, found, out, err := s.fakeLogins.Login(ctx, h)
	<-time.After(patience / 2)
	return l, found, out, err
}

func TestGuestsConcurrently(t *testing.T) {
	db := newFakeLogins()
	g := newGuests(t, db)
	ann, token := enter(t, g, "Ann", "")
	old := signed(protocol.User{ID: ann.ID, Name: "Ann"}, now.Add(time.Hour))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				switch (i + n) % 5 {
				case 0, 1:
					if u, _, err := g.Enter(t.Context(), fmt.Sprint("Ann", n%2), token, now.Add(time.Duration(n)*time.Hour)); err == nil {
						g.Leave(u.ID)
					}
				case 2:
					if u, _, err := g.Enter(t.Context(), "", old, now); err == nil {
						g.Leave(u.ID)
					}
				case 3:
					g.Keep(ann.ID)
				case 4:
					_, _ = g.Who(t.Context(), token, now)
				}
				if i == 0 && n == 150 {
					_ = g.SignOut(t.Context(), ann.ID, now)
				}
			}
		})
	}
	all.Wait()
	if _, err := g.Who(t.Context(), token, now); code(err) != protocol.CodeSignedOut {
		t.Errorf("after she signed out: %v", err)
	}
	if n := len(g.tokens.byUser[ann.ID]); n != 0 {
		t.Errorf("%d tokens of hers are in memory", n)
	}
}

func FuzzToken(f *testing.F) {
	db := newFakeLogins()
	g := newGuests(f, db)
	// The same in each of the fuzzer's processes, which share the seed.
	good := map[string]bool{
		"g2.ABCDEFGHIJKLMNOPQRSTUVWXYZ":                                    true,
		signed(protocol.User{ID: "uann", Name: "Ann"}, now.Add(time.Hour)): true,
	}
	for secret := range good {
		f.Add(secret)
		db.logins[hashOf(secret)] = Login{Hash: hashOf(secret), User: protocol.User{ID: "uann", Name: "Ann"}, UsedAt: now}
	}
	f.Add(signed(protocol.User{ID: "uann", Name: "Ann"}, now))
	f.Fuzz(func(t *testing.T, secret string) {
		who, err := g.Who(t.Context(), secret, now)
		if (err == nil) != good[secret] || err != nil && code(err) != protocol.CodeUnauthorized {
			t.Fatalf("%q is taken for %+v, %v", secret, who, err)
		}
	})
}
