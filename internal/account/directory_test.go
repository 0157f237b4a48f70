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

// fakeUsers implements [account.Presence], [account.Acquaintances] and [account.Devices] for one callee.
type fakeUsers struct {
	here  bool
	comes bool // while the records are asked
	knows bool
	slow  time.Duration // of the records
	fails bool          // they do
	asked bool          // for a device
}

func (f *fakeUsers) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	if !f.here {
		return protocol.User{}, protocol.Prefer{}, false
	}
	return protocol.User{ID: id, Name: "Bob", Presence: protocol.Online}, protocol.Prefer{WhenBusy: protocol.AnswerBusy}, true
}

func (f *fakeUsers) Knows(ctx context.Context, _, _ protocol.UserID) (bool, error) {
	select {
	case <-time.After(f.slow):
	case <-ctx.Done():
		return false, ctx.Err()
	}
	f.here = f.here || f.comes
	if f.fails {
		return false, errors.New("no database")
	}
	return f.knows, nil
}

func (f *fakeUsers) Reachable(id protocol.UserID) (protocol.User, bool, bool) {
	f.asked = true
	return protocol.User{ID: id, Name: "Bob"}, true, true
}

func TestDirectory(t *testing.T) {
	here := protocol.User{ID: "bob", Name: "Bob", Presence: protocol.Online}
	device := protocol.User{ID: "bob", Name: "Bob", Presence: protocol.Offline}
	nobody := protocol.User{ID: "bob", Presence: protocol.Offline}
	busy := protocol.Prefer{WhenBusy: protocol.AnswerBusy}
	for name, test := range map[string]struct {
		users fakeUsers
		want  account.Entry
		took  time.Duration
	}{
		"here, and knows the caller":     {fakeUsers{here: true, knows: true}, account.Entry{User: here, Reachable: true, Knows: true, Prefers: busy}, 0},
		"here, and rung by a stranger":   {fakeUsers{here: true}, account.Entry{User: here, Reachable: true, Prefers: busy}, 0},
		"here, and the records are slow": {fakeUsers{here: true, knows: true, slow: time.Hour}, account.Entry{User: here, Reachable: true, Prefers: busy}, 200 * time.Millisecond},
		"comes meanwhile":                {fakeUsers{comes: true, slow: time.Millisecond}, account.Entry{User: here, Reachable: true, Prefers: busy}, time.Millisecond},
		"has a device, and knows the caller": {
			fakeUsers{knows: true}, account.Entry{User: device, Reachable: true, Knows: true, Prefers: protocol.Prefer{DoNotDisturb: true}}, 0,
		},
		"has a device, and is rung by a stranger":      {fakeUsers{}, account.Entry{User: nobody}, 0},
		"has a device, and the records are slow":       {fakeUsers{knows: true, slow: time.Hour}, account.Entry{User: nobody}, time.Second},
		"has a device, and the records cannot be read": {fakeUsers{knows: true, fails: true}, account.Entry{User: nobody}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				users := &test.users
				directory := account.NewDirectory(users, users, users, slog.New(slog.DiscardHandler))
				began := time.Now()
				got := directory.Find(t.Context(), "ann", "bob")
				if got != test.want || time.Since(began) != test.took {
					t.Errorf("%+v after %v, want %+v after %v", got, time.Since(began), test.want, test.took)
				}
				if users.asked != (test.want.Reachable && !users.here) {
					t.Errorf("a device was looked for: %v", users.asked)
				}
			})
		})
	}
}
