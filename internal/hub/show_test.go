package hub

import (
	"slices"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

func TestPagesThatAreSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, d := start(t)
		bob, _ := come(t, h, "bob", protocol.Hello{Device: "phone", Visible: true})
		come(t, h, "bob", protocol.Hello{Device: "laptop"})
		come(t, h, "ann", protocol.Hello{Device: "other", Visible: true})
		d.since()
		shows := func(when string, since time.Time, want ...string) {
			t.Helper()
			if got := h.Shown("bob", since); !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", when, got, want)
			}
		}
		shows("at first", time.Time{}, "phone")
		shows("not heard since", time.Now().Add(time.Second))
		if h.Shown("nobody", time.Time{}) != nil {
			t.Error("nobody sees a page")
		}

		bob.Receive([]byte(`{"type":"show","device":"phone","visible":true}`))
		expect(t, d.since())
		bob.Receive([]byte(`{"type":"show","device":"phone","visible":false}`))
		expect(t, d.since(), "bob hidden")
		shows("hidden", time.Time{})
		bob.Receive([]byte(`{"type":"show","device":"phone","visible":true}`))
		expect(t, d.since())
		shows("seen again", time.Time{}, "phone")

		bob.Lost()
		expect(t, d.since(), "bob lost", "bob hidden")
		shows("lost", time.Time{})
		again, _ := come(t, h, "bob", protocol.Hello{Resume: bob.Resume(), Device: "phone", Visible: true})
		expect(t, d.since(), "bob back")
		shows("back", time.Time{}, "phone")
		newer, _ := come(t, h, "bob", protocol.Hello{Resume: bob.Resume(), Device: "phone"})
		expect(t, d.since(), "bob hidden", "bob back")
		again.Receive([]byte(`{"type":"show","device":"phone","visible":true}`)) // of a connection that was replaced
		shows("hidden by a new hello", time.Time{})
		newer.Receive([]byte(`{"type":"show","device":"phone","visible":true}`))
		newer.Left()
		expect(t, d.since(), "bob hidden", "bob ended")
		shows("left", time.Time{})
	})
}
