package hub

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

func TestPings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		answers, alive := come(t, h, "ann", protocol.Hello{})
		_, dead := come(t, h, "bob", protocol.Hello{})
		pass(26 * time.Second)
		for range 5 {
			answers.Receive([]byte(`{"type":"pong","ack":0}`))
			pass(25 * time.Second)
		}
		if got := alive.closed(); got != 0 {
			t.Errorf("a connection that answers was closed with %d", got)
		}
		if got := dead.closed(); got != protocol.CloseSilent {
			t.Errorf("a silent connection: %d, want %d", got, protocol.CloseSilent)
		}
	})
}

// TestPingsAreInTime, whenever a line came, and so is the end of one that never answers.
func TestPingsAreInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, _ := start(t)
		ping := protocol.Duration(protocol.DefaultTimings().PingMs)
		type visitor struct {
			*fakeConn
			came  time.Time
			pings []time.Duration // since it came
			ended time.Duration
		}
		var visitors []*visitor
		const step = 350 * time.Millisecond // no part of a round, so that they come in the midst of one
		for began := time.Now(); time.Since(began) < 6*ping; {
			if time.Since(began) < 2*ping {
				_, w := come(t, h, fmt.Sprint("guest ", len(visitors)), protocol.Hello{})
				visitors = append(visitors, &visitor{fakeConn: w, came: time.Now()})
			}
			pass(step)
			for _, v := range visitors {
				since := time.Since(v.came)
				for range strings.Count(strings.Join(v.got(t), " "), "ping") {
					v.pings = append(v.pings, since)
				}
				if v.ended == 0 && v.closed() != 0 {
					v.ended = since
				}
			}
		}
		const slack = round + step
		for i, v := range visitors {
			if len(v.pings) != 2 || (v.pings[0]-ping).Abs() > slack || (v.pings[1]-2*ping).Abs() > slack {
				t.Errorf("guest %d was pinged %v after they came, want %v and %v", i, v.pings, ping, 2*ping)
			}
			if v.closed() != protocol.CloseSilent || v.ended < 5*ping/2 || v.ended > 3*ping+slack {
				t.Errorf("guest %d was closed with %d after %v", i, v.closed(), v.ended)
			}
		}
	})
}
