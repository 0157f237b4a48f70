package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

// told are the presences that a client was told since the last time, without their numbers.
func told(t *testing.T, w *fakeConn) (all []*protocol.PresenceChange) {
	t.Helper()
	w.got(t) // decodes them
	return w.presences()
}

func states(users []protocol.User) string {
	var words []string
	for _, u := range users {
		words = append(words, fmt.Sprint(u.ID, " ", u.Presence))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// Presence of a server full of people must not be a flood: one change a person and second.
func TestPresenceIsCoalesced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		_, ann := come(t, h, "ann", protocol.Hello{})
		come(t, h, "bob", protocol.Hello{})
		come(t, h, "cid", protocol.Hello{})
		pass(2 * presencePeriod)
		told(t, ann)
		for range 100 { // 10 s
			h.SetBusy("bob", true)
			h.SetBusy("cid", true)
			pass(50 * time.Millisecond)
			h.SetBusy("bob", false)
			pass(50 * time.Millisecond)
		}
		pass(presencePeriod)
		got := told(t, ann)
		if len(got) > 12 {
			t.Errorf("%d messages about two people in 10 s, want one a second", len(got))
		}
		last := map[protocol.UserID]protocol.Presence{}
		for _, m := range got {
			for _, u := range m.Users {
				last[u.ID] = u.Presence
			}
		}
		if last["bob"] != protocol.Online || last["cid"] != protocol.Busy {
			t.Errorf("in the end they are %v, want bob online and cid busy", last)
		}
	})
}

// 300 changes while a session is away must not cost it the messages of its call.
func TestPresenceFillsNoQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		ann, _ := come(t, h, "ann", protocol.Hello{})
		come(t, h, "bob", protocol.Hello{})
		h.SetBusy("ann", true)
		ann.Lost()
		h.SendSession(ann.Session(), &protocol.Elsewhere{Call: "c", Act: "accepted"})
		for i := range 2 * maxKept {
			h.SetBusy("bob", i%2 == 0)
			pass(100 * time.Millisecond)
		}
		_, back := come(t, h, "ann", protocol.Hello{Resume: ann.Resume()})
		if w := back.welcome(t); !w.Resumed {
			t.Error("a session cannot be resumed for changes of presence that it missed")
		}
		if got := back.got(t); !slices.Contains(got, "1 elsewhere") {
			t.Errorf("told %q, want the message that waited", got)
		}
	})
}

// Who comes back is told what changed, not everything.
func TestWhoComesBackIsToldWhatChanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		for i := range 200 {
			come(t, h, fmt.Sprintf("u%03d", i), protocol.Hello{})
		}
		leaves, _ := come(t, h, "leaves", protocol.Hello{})
		returns, _ := come(t, h, "returns", protocol.Hello{})
		pass(presencePeriod + presenceDelay)
		ann, w := come(t, h, "ann", protocol.Hello{})
		first := w.welcome(t)
		if len(first.Users) != 202 || first.Partial || first.PresenceAt == "" {
			t.Fatalf("%d users, partial %t, at %q in the first welcome, want all 202", len(first.Users), first.Partial, first.PresenceAt)
		}
		ann.Lost()
		leaves.Left()
		returns.Left()
		h.SetBusy("u007", true)
		pass(2 * presencePeriod)
		come(t, h, "new", protocol.Hello{})
		come(t, h, "returns", protocol.Hello{})
		pass(2 * presencePeriod)

		again, w := come(t, h, "ann", protocol.Hello{PresenceAt: first.PresenceAt})
		second := w.welcome(t)
		want := "ann online, leaves offline, new online, returns online, u007 busy"
		if got := states(append(second.Users, protocol.User{ID: "ann", Presence: protocol.Online})); got != want || !second.Partial {
			t.Errorf("told %s, partial %t, want %s", got, second.Partial, want)
		}
		again.Lost()
		_, w = come(t, h, "ann", protocol.Hello{PresenceAt: second.PresenceAt})
		if third := w.welcome(t); len(third.Users) != 0 || !third.Partial {
			t.Errorf("told of %d users, partial %t, where nothing changed", len(third.Users), third.Partial)
		}
		for _, cursor := range []string{"", "x.1", "other." + strings.SplitN(second.PresenceAt, ".", 2)[1], second.PresenceAt + "9", "."} {
			_, w := come(t, h, "zoe", protocol.Hello{PresenceAt: cursor})
			if got := w.welcome(t); got.Partial || len(got.Users) < 202 {
				t.Errorf("with cursor %q: %d users, partial %t, want all", cursor, len(got.Users), got.Partial)
			}
		}
	})
}

// A client that was away for more departures than the hub remembers is told of all who are here.
func TestDeparturesAreNotRememberedForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		_, w := come(t, h, "ann", protocol.Hello{})
		pass(presencePeriod)
		at := w.welcome(t).PresenceAt
		for i := range maxGone + 1 {
			h.mu.Lock()
			h.presence.pending[protocol.UserID(fmt.Sprint(i))] = protocol.User{Presence: protocol.Online}
			h.mu.Unlock()
		}
		h.mu.Lock()
		for len(h.presence.pending) > 0 {
			h.announceLocked(time.Now())
		}
		h.mu.Unlock()
		if len(h.presence.gone) > maxGone {
			t.Errorf("%d departures are remembered, want %d at most", len(h.presence.gone), maxGone)
		}
		_, w = come(t, h, "bob", protocol.Hello{PresenceAt: at})
		if got := w.welcome(t); got.Partial || states(got.Users) != "ann online" {
			t.Errorf("told %s, partial %t, want all", states(got.Users), got.Partial)
		}
	})
}
