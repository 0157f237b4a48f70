package account

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

// fakeLogins is a [Logins] in memory. A test can make it fail, block, or have no room.
type fakeLogins struct {
	mu     sync.Mutex
	logins map[Hash]Login
	out    map[protocol.UserID]bool
	fails  bool
	hangs  bool
	full   bool
	reads  int
}

func newFakeLogins() *fakeLogins {
	return &fakeLogins{logins: map[Hash]Login{}, out: map[protocol.UserID]bool{}}
}

func (f *fakeLogins) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// begin takes the lock and returns with it held. It waits for ctx if the logins hang, and returns an error if they fail.
func (f *fakeLogins) begin(ctx context.Context) error {
	f.mu.Lock()
	if f.hangs {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return ctx.Err()
	}
	if f.fails {
		return errors.New("the database is down")
	}
	return nil
}

func (f *fakeLogins) Login(ctx context.Context, h Hash) (Login, bool, bool, error) {
	err := f.begin(ctx)
	defer f.mu.Unlock()
	f.reads++
	l, found := f.logins[h]
	if err != nil {
		return Login{}, false, false, err
	}
	return l, found, f.out[l.User.ID], nil
}

func (f *fakeLogins) KeepLogin(l Login) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.full {
		f.logins[l.Hash] = l
	}
	return !f.full
}

func (f *fakeLogins) AddLogin(ctx context.Context, l Login) error {
	err := f.begin(ctx)
	defer f.mu.Unlock()
	if err == nil {
		f.logins[l.Hash] = l
	}
	return err
}

func (f *fakeLogins) SignOut(ctx context.Context, id protocol.UserID, _ time.Time) error {
	err := f.begin(ctx)
	defer f.mu.Unlock()
	if err == nil {
		f.out[id] = true
	}
	return err
}

func (f *fakeLogins) SignedOut(ctx context.Context, id protocol.UserID) (bool, error) {
	err := f.begin(ctx)
	defer f.mu.Unlock()
	f.reads++
	return f.out[id], err
}

// fakeSessions counts the sessions of each user.
type fakeSessions struct {
	mu   sync.Mutex
	here map[protocol.UserID]int
	gone map[protocol.UserID]bool // they have had no connection for a while
}

func (s *fakeSessions) change(id protocol.UserID, by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.here[id] += by
}

func (s *fakeSessions) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return protocol.User{ID: id}, protocol.Prefer{}, s.here[id] > 0
}

func (s *fakeSessions) Dismiss(id protocol.UserID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[id] {
		delete(s.here, id)
	}
	return s.here[id] == 0
}

// guestsWithSessions are [Guests] that open a session for each guest who has come in.
type guestsWithSessions struct {
	*Guests
	sessions *fakeSessions
}

func (g *guestsWithSessions) come(ctx context.Context, c Credentials, now time.Time) (Visitor, *protocol.Error) {
	who, refused := g.Guests.Enter(ctx, c, now)
	if refused == nil {
		g.sessions.change(who.User.ID, 1)
		g.Entered(who)
	}
	return who, refused
}

// Enter lets a guest in by name, token or both.
func (g *guestsWithSessions) Enter(ctx context.Context, name, token string, now time.Time) (protocol.User, string, *protocol.Error) {
	who, refused := g.come(ctx, Credentials{Name: name, Token: token}, now)
	return who.User, who.Token, refused
}

// EnterUnproven lets in a client that keeps no token.
func (g *guestsWithSessions) EnterUnproven(name string) (protocol.User, *protocol.Error) {
	who, refused := g.come(context.Background(), Credentials{Name: name, Unproven: true}, now)
	return who.User, refused
}

// Leave ends a session.
func (g *guestsWithSessions) Leave(id protocol.UserID) {
	g.sessions.change(id, -1)
	g.Departed(id)
}

// newGuests makes Guests over such logins. A second call with the same logins stands for a restart.
func newGuests(t testing.TB, s *fakeLogins) *guestsWithSessions {
	t.Helper()
	sessions := &fakeSessions{here: map[protocol.UserID]int{}, gone: map[protocol.UserID]bool{}}
	g, err := NewGuests(Config{Logins: s, Sessions: sessions, Secret: []byte("secret"), SignedUntil: now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &guestsWithSessions{g, sessions}
}
