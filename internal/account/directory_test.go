package account_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

// fakePlace is who is here, who knows whom, and who has a device.
type fakePlace struct {
	here  bool
	comes bool // while the records are asked
	knows bool
	slow  time.Duration // of the records
	fails bool          // they do
	asked bool          // for a device
}

func (p *fakePlace) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	if !p.here {
		return protocol.User{}, protocol.Prefer{}, false
	}
	return protocol.User{ID: id, Name: "Bob", Presence: protocol.Online}, protocol.Prefer{WhenBusy: protocol.AnswerBusy}, true
}

func (p *fakePlace) Knows(ctx context.Context, _, _ protocol.UserID) (bool, error) {
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return false, ctx.Err()
	}
	p.here = p.here || p.comes
	if p.fails {
		return false, errors.New("no database")
	}
	return p.knows, nil
}

func (p *fakePlace) Reachable(id protocol.UserID) (protocol.User, bool, bool) {
	p.asked = true
	return protocol.User{ID: id, Name: "Bob"}, true, true
}

func TestDirectory(t *testing.T) {
	here := protocol.User{ID: "bob", Name: "Bob", Presence: protocol.Online}
	device := protocol.User{ID: "bob", Name: "Bob", Presence: protocol.Offline}
	nobody := protocol.User{ID: "bob", Presence: protocol.Offline}
	busy := protocol.Prefer{WhenBusy: protocol.AnswerBusy}
	for name, test := range map[string]struct {
		place fakePlace
		want  account.Entry
		took  time.Duration
	}{
		"here, and knows the caller":     {fakePlace{here: true, knows: true}, account.Entry{User: here, Reachable: true, Knows: true, Prefers: busy}, 0},
		"here, and rung by a stranger":   {fakePlace{here: true}, account.Entry{User: here, Reachable: true, Prefers: busy}, 0},
		"here, and the records are slow": {fakePlace{here: true, knows: true, slow: time.Hour}, account.Entry{User: here, Reachable: true, Prefers: busy}, 200 * time.Millisecond},
		"comes meanwhile":                {fakePlace{comes: true, slow: time.Millisecond}, account.Entry{User: here, Reachable: true, Prefers: busy}, time.Millisecond},
		"has a device, and knows the caller": {
			fakePlace{knows: true}, account.Entry{User: device, Reachable: true, Knows: true, Prefers: protocol.Prefer{DoNotDisturb: true}}, 0,
		},
		"has a device, and is rung by a stranger":      {fakePlace{}, account.Entry{User: nobody}, 0},
		"has a device, and the records are slow":       {fakePlace{knows: true, slow: time.Hour}, account.Entry{User: nobody}, time.Second},
		"has a device, and the records cannot be read": {fakePlace{knows: true, fails: true}, account.Entry{User: nobody}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				place := &test.place
				directory := account.NewDirectory(place, place, place, slog.New(slog.DiscardHandler))
				began := time.Now()
				got := directory.Find(t.Context(), "ann", "bob")
				if got != test.want || time.Since(began) != test.took {
					t.Errorf("%+v after %v, want %+v after %v", got, time.Since(began), test.want, test.took)
				}
				if place.asked != (test.want.Reachable && !place.here) {
					t.Errorf("a device was looked for: %v", place.asked)
				}
			})
		})
	}
}
