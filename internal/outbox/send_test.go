package outbox

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

func TestAFailedPushIsTriedAgain(t *testing.T) {
	offline := errors.New("no route")
	tests := []struct {
		name   string
		answer func(n int, d delivery) (int, http.Header, time.Duration, error)
		tries  int
		taken  bool
		within [2]time.Duration // of the last try
	}{
		{"503 once", func(n int, _ delivery) (int, http.Header, time.Duration, error) {
			return []int{503, 201}[min(n, 1)], nil, 0, nil
		}, 2, true, [2]time.Duration{250 * time.Millisecond, 500 * time.Millisecond}},
		{"offline twice", func(n int, _ delivery) (int, http.Header, time.Duration, error) {
			return 202, nil, 0, []error{offline, offline, nil}[min(n, 2)]
		}, 3, true, [2]time.Duration{750 * time.Millisecond, 1500 * time.Millisecond}},
		{"too many, come later", func(n int, _ delivery) (int, http.Header, time.Duration, error) {
			return []int{429, 200}[min(n, 1)], http.Header{"Retry-After": {"7"}}, 0, nil
		}, 2, true, [2]time.Duration{7 * time.Second, 7 * time.Second}},
		{"come at a time", func(n int, _ delivery) (int, http.Header, time.Duration, error) {
			at := time.Now().Add(9 * time.Second).UTC().Format(http.TimeFormat)
			return []int{503, 200}[min(n, 1)], http.Header{"Retry-After": {at}}, 0, nil
		}, 2, true, [2]time.Duration{8 * time.Second, 9 * time.Second}},
		{"come when it is over", func(int, delivery) (int, http.Header, time.Duration, error) {
			return 429, http.Header{"Retry-After": {"60"}}, 0, nil
		}, 1, false, [2]time.Duration{0, 0}},
		{"no answer", func(n int, _ delivery) (int, http.Header, time.Duration, error) {
			return 201, nil, []time.Duration{time.Hour, 0}[min(n, 1)], nil
		}, 2, true, [2]time.Duration{10250 * time.Millisecond, 10500 * time.Millisecond}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestOutbox(t, phone)
				s.transport.answer = test.answer
				s.Push("bob", pushed("c1", protocol.PushRinging))
				advance(2 * time.Minute)
				if len(s.transport.deliveries) != test.tries || (len(s.transport.taken) == 1) != test.taken {
					t.Fatalf("%d tries, taken %v", len(s.transport.deliveries), s.transport.taken)
				}
				last := s.transport.deliveries[test.tries-1]
				if last.after < test.within[0] || last.after > test.within[1] {
					t.Errorf("the last try after %v", last.after)
				}
				if left := 60_000 - last.after.Milliseconds(); last.message.RingMs > left || last.message.RingMs < left-1 {
					t.Errorf("after %v it rings for %d ms", last.after, last.message.RingMs)
				}
				if s.queued != 0 || s.busy() != 0 {
					t.Errorf("%d messages, %d goroutines are left", s.queued, s.busy())
				}
			})
		})
	}
}

func TestARingIsNotPushedWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		s.transport.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return 500, nil, 0, nil }
		s.Push("bob", pushed("c1", protocol.PushRinging))
		advance(10 * time.Minute)
		n := len(s.transport.deliveries)
		if last := s.transport.deliveries[n-1]; n < 5 || last.after > time.Minute {
			t.Errorf("%d tries, the last after %v", n, last.after)
		}
		if s.metric(t, "visavis_pushes_dropped_total", droppedExpired) != 1 || s.metric(t, "visavis_pushes_retried_total", "") != float64(n) {
			t.Error("metrics are wrong")
		}
	})
}

func TestWhatAPushServiceRefuses(t *testing.T) {
	for status, forgotten := range map[int]bool{404: true, 410: true, 403: true, 400: false, 401: false, 413: false, 302: false} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestOutbox(t, phone, laptop)
				s.transport.answer = func(_ int, d delivery) (int, http.Header, time.Duration, error) {
					if d.url == laptop {
						return 201, nil, 0, nil
					}
					return status, http.Header{"Location": {laptop}}, 0, nil
				}
				s.Push("bob", pushed("c1", protocol.PushRinging))
				advance(2 * time.Minute)
				if got := s.transport.delivered(); len(got) != 2 {
					t.Errorf("told %v", got)
				}
				want := []string{phone, laptop}
				cause := refusedOther
				if forgotten {
					want, cause = want[1:], refusedGone
				}
				if diff := cmp.Diff(want, s.kept.endpoints()); diff != "" {
					t.Errorf("kept (-want +got):\n%s", diff)
				}
				if s.count() != len(want) || s.metric(t, "visavis_pushes_refused_total", cause) != 1 {
					t.Errorf("%d devices are known", s.count())
				}
				if len(s.transport.taken) != 1 {
					t.Errorf("taken %v", s.transport.taken)
				}
			})
		})
	}
}

func TestAMovedDeviceIsNotToldWhatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		s.transport.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return 503, nil, 0, nil }
		s.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		bobs := s.byEndpoint[phone]
		s.subscribe(t, "cy", phone)
		advance(2 * time.Minute)
		if got := s.transport.delivered(); len(got) != 1 || s.queued != 0 || s.busy() != 0 || bobs.busy {
			t.Errorf("told %v; %d messages, %d goroutines are left, one for Bob: %v", got, s.queued, s.busy(), bobs.busy)
		}
	})
}
