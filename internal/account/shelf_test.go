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

// place is one with such a shelf; another call is the same place after a restart.
func place(t testing.TB, s *shelf) *Guests {
	t.Helper()
	g, err := NewGuests(Config{Logins: s, Secret: []byte("secret"), SignedUntil: now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}
