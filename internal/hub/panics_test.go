package hub

import (
	"testing"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// panickingConn is a [Conn] that panics when it is written to or closed.
type panickingConn struct{ fakeConn }

func (*panickingConn) Send([]byte) error                { panic("planted by a test") }
func (*panickingConn) Close(protocol.CloseCode, string) { panic("planted by a test") }

// A connection whose writes and Close panic is lost; the hub goes on for everybody else.
func TestAPanicOfAConnectionIsItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		before := panics.Count("a connection")
		_, refused := h.Attach(new(panickingConn), protocol.User{ID: "eve", Name: "eve"}, "token", &protocol.Hello{})
		if refused != nil {
			t.Fatal(refused)
		}
		_, ann := come(t, h, "ann", protocol.Hello{})
		ann.welcome(t)
		if got := panics.Count("a connection") - before; got != 2 { // Send of the welcome, and Close
			t.Errorf("counted %d panics, want 2", got)
		}
		if _, connected := h.count(); connected != 1 {
			t.Errorf("%d are connected", connected)
		}
	})
}
