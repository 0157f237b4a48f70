package outbox

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

func TestEveryDeviceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone, laptop)
		s.Push("nobody", pushed("c0", protocol.PushRinging))
		s.Push("bob", pushed("c1", protocol.PushRinging))
		advance(5 * time.Second)
		s.Push("bob", pushed("c1", protocol.PushElsewhere))
		advance(time.Second)
		s.Push("bob", pushed("c2", protocol.PushMissed))
		synctest.Wait()
		type seen struct{ URL, Call, State, TTL, Urgency string }
		var got []seen
		topics := map[protocol.CallID]string{}
		for _, d := range s.transport.deliveries {
			got = append(got, seen{d.url, string(d.message.Call), string(d.message.State), d.header.Get("TTL"), d.header.Get("Urgency")})
			topic := d.header.Get("Topic")
			if before, ok := topics[d.message.Call]; len(topic) != 32 || ok && before != topic {
				t.Errorf("topic %q after %q", topic, before)
			}
			topics[d.message.Call] = topic
			if d.header.Get("Content-Encoding") != "aes128gcm" {
				t.Errorf("headers: %v", d.header)
			}
		}
		slices.SortStableFunc(got, func(a, b seen) int { return strings.Compare(a.URL, b.URL) })
		var want []seen
		for _, url := range []string{phone, laptop} {
			want = append(want,
				seen{url, "c1", "ringing", "60", "high"}, seen{url, "c1", "elsewhere", "55", "high"}, seen{url, "c2", "missed", "86400", "normal"})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if topics["c1"] == topics["c2"] {
			t.Error("two calls have one topic")
		}
		if diff := cmp.Diff([]protocol.CallID{"c1", "c1"}, s.transport.taken); diff != "" {
			t.Errorf("taken (-want +got):\n%s", diff)
		}
		if s.metric(t, "visavis_pushes_sent_total", "") != 6 || s.metric(t, "visavis_push_devices", "") != 2 {
			t.Error("metrics are wrong")
		}
	})
}

func TestTheEndOfARingIsToldWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		s.Push("bob", pushed("c1", protocol.PushRinging))
		advance(time.Minute)
		s.Push("bob", pushed("c1", protocol.PushElsewhere))
		synctest.Wait()
		if n := len(s.transport.deliveries); n != 2 || s.transport.deliveries[1].header.Get("TTL") != "1" {
			t.Errorf("%d deliveries: %+v", n, s.transport.deliveries)
		}
	})
}

// TestARingDoesNotWaitForWhatWasBefore lets a missed call fail for long, and so be
// tried every few minutes only.
func TestARingDoesNotWaitForWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		status := 500
		s.transport.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return status, nil, 0, nil }
		s.Push("bob", pushed("c1", protocol.PushMissed))
		advance(3 * time.Hour)
		n := len(s.transport.deliveries)
		if n > 50 {
			t.Errorf("%d tries in three hours", n)
		}
		status = 201
		at := time.Since(s.transport.start)
		s.Push("bob", pushed("c2", protocol.PushRinging))
		synctest.Wait()
		for i, id := range []protocol.CallID{"c1", "c2"} {
			if got := s.transport.deliveries[n+i]; got.message.Call != id || got.after != at {
				t.Errorf("%s %v after %v, want %s after %v", got.message.Call, got.message.State, got.after, id, at)
			}
		}
	})
}

// TestTheLastWordOfACall lets what became of a call come while its ring is on the way.
func TestTheLastWordOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		var status int
		var after time.Duration
		s.transport.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return status, nil, after, nil }
		expect := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, s.transport.delivered()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		status, after = 201, 5*time.Second
		s.Push("bob", pushed("c1", protocol.PushRinging))
		advance(time.Second)
		s.Push("bob", pushed("c1", protocol.PushMissed))
		advance(time.Second)
		expect("it never overtakes", "c1 ringing")
		advance(10 * time.Second)
		expect("it follows", "c1 ringing", "c1 missed")

		status, after = 503, 0
		s.transport.deliveries = nil
		s.Push("bob", pushed("c2", protocol.PushRinging))
		synctest.Wait()
		status = 201
		s.Push("bob", pushed("c2", protocol.PushEnded))
		advance(time.Minute)
		expect("it replaces what waits to be tried again", "c2 ringing", "c2 ended")

		status, after = 503, 2*time.Second
		s.transport.deliveries = nil
		s.Push("bob", pushed("c3", protocol.PushRinging))
		advance(time.Second)
		status, after = 201, 0
		s.Push("bob", pushed("c3", protocol.PushElsewhere))
		advance(time.Minute)
		expect("it replaces what failed meanwhile", "c3 ringing", "c3 elsewhere")
		if s.queued != 0 || s.busy() != 0 {
			t.Errorf("%d messages, %d goroutines are left", s.queued, s.busy())
		}
	})
}

func TestTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone, laptop)
		third := "https://web.push.apple.com/third"
		s.subscribe(t, "bob", third)
		s.transport.answer = func(_ int, d delivery) (int, http.Header, time.Duration, error) {
			switch d.url {
			case phone:
				return 201, nil, 2 * time.Second, nil // slow
			case laptop:
				return 503, http.Header{"Retry-After": {"20"}}, 0, nil
			}
			return 201, nil, time.Hour, nil // hangs
		}
		s.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		s.Push("bob", pushed("c1", protocol.PushEnded))
		synctest.Wait()
		began := time.Now()
		s.stop()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the end took %v", took)
		}
		s.Push("bob", pushed("c2", protocol.PushRinging))
		var got []string
		for _, d := range s.transport.deliveries {
			if d.url == phone {
				got = append(got, string(d.message.State))
			}
		}
		if diff := cmp.Diff([]string{"ringing", "ended"}, got); diff != "" || len(s.transport.deliveries) != 4 {
			t.Errorf("%d deliveries; to the phone (-want +got):\n%s", len(s.transport.deliveries), diff)
		}
		if s.queued != 0 || s.busy() != 0 {
			t.Errorf("%d messages, %d goroutines are left", s.queued, s.busy())
		}
	})
}

func TestTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		s.transport.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return 503, nil, 0, nil }
		s.Push("bob", pushed("c0", protocol.PushMissed))
		synctest.Wait()
		for i := range maxQueued + 5 {
			s.Push("bob", pushed(protocol.CallID(fmt.Sprint("d", i)), protocol.PushMissed))
		}
		if got := s.metric(t, "visavis_pushes_dropped_total", droppedFull); got != 6 {
			t.Errorf("%v were dropped", got)
		}
		s.Push("bob", pushed("c0", protocol.PushEnded)) // takes no more room
		if got := s.metric(t, "visavis_pushes_dropped_total", droppedFull); got != 6 {
			t.Errorf("%v were dropped", got)
		}
	})
}

func TestADeviceWithAPageThatIsSeenIsToldOnlyOfWhatItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone, laptop)
		sum := sha256.Sum256([]byte(phone))
		id := base64.RawURLEncoding.EncodeToString(sum[:])
		s.Push("bob", pushed("c1", protocol.PushRinging), id)
		advance(time.Second)
		s.Push("bob", pushed("c1", protocol.PushMissed), id)
		advance(time.Second)
		s.Push("bob", pushed("c2", protocol.PushRinging), id)
		advance(time.Second)
		s.Push("bob", pushed("c2", protocol.PushRinging)) // the page is hidden
		advance(time.Minute + time.Second)                // the ring is over
		s.Push("bob", pushed("c2", protocol.PushMissed), id)
		synctest.Wait()
		got := map[string][]string{}
		for _, d := range s.transport.deliveries {
			got[d.url] = append(got[d.url], fmt.Sprint(d.message.Call, " ", d.message.State))
		}
		want := map[string][]string{
			phone:  {"c2 ringing", "c2 missed"},
			laptop: {"c1 ringing", "c1 missed", "c2 ringing", "c2 missed"},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
