package call

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// A timer that panics ends its call, which no other timer would, and both parties are free.
func TestATimerThatPanicsEndsItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, ringing := panics.Count(inTimer), table[Ringing]
		defer func() { table[Ringing] = ringing }()
		breaks := ringing
		breaks[UnreachableTimeout].step = func(*Call, Input, time.Time) []Output { panic("planted by a test") }
		table[Ringing] = breaks // before there is a timer, which reads it
		s, router := open(t)
		s.says("ann1", &protocol.Ring{To: "bob"})
		expect(t, router, "ann1 calling", "bob* ring", "ann busy true")
		pass(time.Minute)
		if got := panics.Count(inTimer) - before; got != 1 {
			t.Errorf("counted %d panics, want 1", got)
		}
		expect(t, router, "ann1 ended failed", "bob* ended failed", "ann busy false")
		if got := router.ended(); len(got) != 1 || got[0].Reason != protocol.ReasonFailed {
			t.Errorf("records: %+v", got)
		}
		if got := s.says("bob1", &protocol.Ring{To: "cy"}); got != "" {
			t.Errorf("Bob rings somebody else: %s", got)
		}
	})
}

// An output that panics holds up no other one.
func TestAnOutputThatPanicsIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, router := open(t)
		router.onSend = func(to protocol.SessionID, _ protocol.Message) {
			if to == "ann1" {
				panic("planted by a test")
			}
		}
		before := panics.Count(inOutput)
		s.says("ann1", &protocol.Ring{To: "bob"})
		expect(t, router, "bob* ring", "ann busy true")
		if got := panics.Count(inOutput) - before; got != 1 {
			t.Errorf("counted %d panics, want 1", got)
		}
	})
}
