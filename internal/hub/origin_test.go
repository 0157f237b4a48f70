package hub

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// originRecorder is a fakeHandler that notes the origin of each call.
type originRecorder struct{ fakeHandler }

func (r *originRecorder) noteOrigin(what string, o origin.Origin) {
	r.note("%s %s %v %v", what, o.User.Name, o.Address, o.AlwaysRelay)
}

func (r *originRecorder) HandleMessage(o origin.Origin, m protocol.Message) *protocol.Error {
	r.noteOrigin(m.Type(), o)
	return nil
}
func (r *originRecorder) SessionOpened(o origin.Origin)  { r.noteOrigin("opened", o) }
func (r *originRecorder) ConnectionLost(o origin.Origin) { r.noteOrigin("lost", o) }
func (r *originRecorder) ConnectionBack(o origin.Origin) { r.noteOrigin("back", o) }
func (r *originRecorder) SessionTakenOver(old protocol.SessionID, by origin.Origin) {
	r.noteOrigin(fmt.Sprintf("took over %t", old != by.Session), by)
}

// addressedConn is a fakeConn with an address of its own.
type addressedConn struct {
	fakeConn
	address string
}

func (c *addressedConn) Address() netip.Addr { return netip.MustParseAddr(c.address) }

// TestWhereThingsComeFrom: an origin says what is true of its session at that moment.
func TestWhereThingsComeFrom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		d := &originRecorder{}
		h.Handle(d)
		attach := func(address, name string, hello *protocol.Hello) *Line {
			t.Helper()
			l, refused := h.Attach(&addressedConn{address: address}, protocol.User{ID: "ann", Name: name}, "token", hello)
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
