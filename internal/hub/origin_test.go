package hub

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// fakeHandler writes down where things come from.
type fakeHandler struct{ desk }

func (h *fakeHandler) noteOrigin(what string, o origin.Origin) {
	h.note("%s %s %v %v", what, o.User.Name, o.Address, o.AlwaysRelay)
}

func (h *fakeHandler) HandleMessage(o origin.Origin, m protocol.Message) *protocol.Error {
	h.noteOrigin(m.Type(), o)
	return nil
}
func (h *fakeHandler) SessionOpened(o origin.Origin)  { h.noteOrigin("opened", o) }
func (h *fakeHandler) ConnectionLost(o origin.Origin) { h.noteOrigin("lost", o) }
func (h *fakeHandler) ConnectionBack(o origin.Origin) { h.noteOrigin("back", o) }
func (h *fakeHandler) SessionTakenOver(old protocol.SessionID, by origin.Origin) {
	h.noteOrigin(fmt.Sprintf("took over %t", old != by.Session), by)
}

// wireFrom is a connection from an address.
type wireFrom struct {
	wire
	address string
}

func (w *wireFrom) Address() netip.Addr { return netip.MustParseAddr(w.address) }

// TestWhereThingsComeFrom: an origin says what is true of its session at that moment.
func TestWhereThingsComeFrom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		d := &fakeHandler{}
		h.Handle(d)
		attach := func(address, name string, hello *protocol.Hello) *Line {
			t.Helper()
			l, refused := h.Attach(&wireFrom{address: address}, protocol.User{ID: "ann", Name: name}, "token", hello)
			if refused != nil {
				t.Fatal(refused)
			}
			return l
		}
		l := attach("192.0.2.1", "Ann", &protocol.Hello{AlwaysRelay: true})
		l.Receive([]byte(`{"seq":1,"type":"ringing","call":"c"}`))
		l.Lost()
		expect(t, d.since(), "opened Ann 192.0.2.1 true", "ringing Ann 192.0.2.1 true", "lost Ann invalid IP true")
		h.Beacon(l.Resume(), &protocol.Hangup{Call: "c"})
		expect(t, d.since(), "hangup Ann invalid IP true")
		back := attach("192.0.2.2", "Anna", &protocol.Hello{Resume: l.Resume()})
		expect(t, d.since(), "back Anna 192.0.2.2 false")
		attach("192.0.2.3", "Anna", &protocol.Hello{Resume: back.Resume(), Reload: true, AlwaysRelay: true})
		expect(t, d.since()[:1], "took over true Anna 192.0.2.3 true")
	})
}
