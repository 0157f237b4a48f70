package outbox

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// A push that panics is lost; its device and its push service are sent to as before.
func TestAPanicIsOnePushs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		s.transport.answer = func(n int, _ delivery) (int, http.Header, time.Duration, error) {
			if n < perService {
				panic("planted by a test")
			}
			return http.StatusCreated, nil, 0, nil
		}
		before := panics.Count(inPush)
		for range perService + 1 {
			s.Push("bob", pushed("c1", protocol.PushMissed))
			advance(2 * firstWait)
		}
		advance(sendTimeout) // net/http does not stop a request's timer when its transport panics
		if got := panics.Count(inPush) - before; got != perService {
			t.Errorf("counted %d panics, want %d", got, perService)
		}
		if got := s.metric(t, "visavis_pushes_sent_total", ""); got != 1 {
			t.Errorf("%v were sent", got)
		}
		if s.queued != 0 {
			t.Errorf("%d messages wait", s.queued)
		}
	})
}
