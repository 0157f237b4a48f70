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

// shelf keeps logins as a database does: it may fail, hang, or have no room.
type shelf struct {
	mu     sync.Mutex
	logins map[Hash]Login
	out    map[protocol.UserID]bool
	fails  bool
	hangs  bool
	full   bool
	reads  int
}

func newShelf() *shelf {
	return &shelf{logins: map[Hash]Login{}, out: map[protocol.UserID]bool{}}
}

func (s *shelf) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// begin waits where it hangs, and returns the error where it fails, with the lock held.
func (s *shelf) begin(ctx context.Context) error {
	s.mu.Lock()
	if s.hangs {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return ctx.Err()
	}
	if s.fails {
		return errors.New("the database is down")
	}
	return nil
}

func (s *shelf) Login(ctx context.Context, h Hash) (Login, bool, bool, error) {
	err := s.begin(ctx)
	defer s.mu.Unlock()
	s.reads++
	l, found := s.logins[h]
	if err != nil {
		return Login{}, false, false, err
	}
	return l, found, s.out[l.User.ID], nil
}

func (s *shelf) KeepLogin(l Login) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.full {
		s.logins[l.Hash] = l
	}
	return !s.full
}

func (s *shelf) AddLogin(ctx context.Context, l Login) error {
	err := s.begin(ctx)
	defer s.mu.Unlock()
	if err == nil {
		s.logins[l.Hash] = l
	}
	return err
}

func (s *shelf) SignOut(ctx context.Context, id protocol.UserID, _ time.Time) error {
	err := s.begin(ctx)
	defer s.mu.Unlock()
	if err == nil {
		s.out[id] = true
	}
	return err
}

func (s *shelf) SignedOut(ctx context.Context, id protocol.UserID) (bool, error) {
	err := s.begin(ctx)
	defer s.mu.Unlock()
	s.reads++
	return s.out[id], err
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

// visits are guests each of whom has a session as soon as they have come in.
type visits struct {
	*Guests
	sessions *fakeSessions
}

func (v *visits) come(ctx context.Context, c Credentials, now time.Time) (Visitor, *protocol.Error) {
	who, refused := v.Guests.Enter(ctx, c, now)
	if refused == nil {
		v.sessions.change(who.User.ID, 1)
		v.Entered(who)
	}
	return who, refused
}

// Enter lets a guest in by name, token or both.
func (v *visits) Enter(ctx context.Context, name, token string, now time.Time) (protocol.User, string, *protocol.Error) {
	who, refused := v.come(ctx, Credentials{Name: name, Token: token}, now)
	return who.User, who.Token, refused
}

// EnterUnproven lets in a client that keeps no token.
func (v *visits) EnterUnproven(name string) (protocol.User, *protocol.Error) {
	who, refused := v.come(context.Background(), Credentials{Name: name, Unproven: true}, now)
	return who.User, refused
}

// Leave ends a session.
func (v *visits) Leave(id protocol.UserID) {
	v.sessions.change(id, -1)
	v.Departed(id)
}

// place is one with such a shelf; another call is the same place after a restart.
func place(t testing.TB, s *shelf) *visits {
	t.Helper()
	sessions := &fakeSessions{here: map[protocol.UserID]int{}, gone: map[protocol.UserID]bool{}}
	g, err := NewGuests(Config{Logins: s, Sessions: sessions, Secret: []byte("secret"), SignedUntil: now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &visits{g, sessions}
}
