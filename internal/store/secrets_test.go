package store_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/store"
)

func TestSecrets(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		other, _ := open(t, db) // another node
		found := make(chan string, 20)
		for i := range 20 {
			go func() {
				secret, err := []*store.DB{s, other}[i%2].Secret(t.Context(), "relay")
				if err != nil {
					t.Error(err)
				}
				found <- string(secret)
			}()
		}
		first := <-found
		for range 19 {
			if <-found != first {
				t.Fatal("two secrets of one name")
			}
		}
		if len(first) != 32 {
			t.Errorf("a secret of %d bytes, want 32", len(first))
		}
		tickets, err := s.Secret(t.Context(), "tickets")
		if err != nil || string(tickets) == first {
			t.Errorf("another name has the same secret, or error %v", err)
		}
	})
}

func TestARetiredSecret(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		if value, _, err := s.RetiredSecret(t.Context(), "none"); value != nil || err != nil {
			t.Errorf("one that there never was: %x, %v", value, err)
		}
		kept, err := s.Secret(t.Context(), "old")
		if err != nil {
			t.Fatal(err)
		}
		value, since, err := s.RetiredSecret(t.Context(), "old")
		if err != nil || !bytes.Equal(value, kept) || time.Since(since) > time.Minute {
			t.Errorf("got %x since %v, %v, want %x since now", value, since, err, kept)
		}
		exec(t, db.side, "UPDATE secrets SET made_at = 7000 WHERE name = 'old retired'")
		if _, since, _ := s.RetiredSecret(t.Context(), "old"); since.Unix() != 7 {
			t.Errorf("later it is since %v", since)
		}
	})
}
