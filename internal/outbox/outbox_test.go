package outbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/protocol"
)

// shelf keeps devices as a store does, but not for long.
type shelf struct {
	mu      sync.Mutex
	devices []Device
	fails   bool
}

func (s *shelf) All(context.Context) ([]Device, error) { return slices.Clone(s.devices), nil }

func (s *shelf) Keep(_ context.Context, d Device) error {
	if s.fails {
		return errors.New("no database")
	}
	_ = s.Forget(context.Background(), d.Endpoint)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = append(s.devices, d)
	return nil
}

func (s *shelf) Forget(_ context.Context, endpoint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices = slices.DeleteFunc(s.devices, func(d Device) bool { return d.Endpoint == endpoint })
	return nil
}

// endpoints are the kept ones.
func (s *shelf) endpoints() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []string{}
	for _, d := range s.devices {
		all = append(all, d.Endpoint)
	}
	return all
}

// delivery is one request that a push service got.
type delivery struct {
	after   time.Duration // since the start of the test
	url     string
	header  http.Header
	message *protocol.Push
}

// makers is every browser maker's push service; answer decides on each delivery.
type makers struct {
	t        *testing.T
	start    time.Time
	browsers map[string]*browser // by endpoint; set before use
	answer   func(n int, d delivery) (status int, header http.Header, after time.Duration, err error)

	mu         sync.Mutex
	deliveries []delivery // guarded by mu, as all below
	taken      []protocol.CallID
}

func (m *makers) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	d := delivery{after: time.Since(m.start), url: r.URL.String(), header: r.Header}
	text, err := m.browsers[d.url].open(body)
	if err != nil {
		m.t.Errorf("%s gets what it cannot read: %v", d.url, err)
		return nil, err
	}
	message, _, err := protocol.Decode(text)
	if err != nil {
		return nil, err
	}
	d.message, _ = message.(*protocol.Push)
	m.mu.Lock()
	n := len(m.deliveries)
	m.deliveries = append(m.deliveries, d)
	m.mu.Unlock()
	status, header, after, err := http.StatusCreated, http.Header{}, time.Duration(0), error(nil)
	if m.answer != nil {
		status, header, after, err = m.answer(n, d)
	}
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader("why")), Request: r}, nil
}

// told is what was delivered so far, in words.
func (m *makers) told() []string {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []string{}
	for _, d := range m.deliveries {
		all = append(all, fmt.Sprintf("%s %s", d.message.Call, d.message.State))
	}
	return all
}

// scene is an outbox that runs, with its surroundings, in a bubble.
type scene struct {
	*Outbox
	shelf    *shelf
	makers   *makers
	registry *prometheus.Registry
	stop     func()
}

const (
	phone  = "https://fcm.googleapis.com/fcm/send/phone"
	laptop = "https://updates.push.services.mozilla.com/wpush/v2/laptop"
)

func newScene(t *testing.T, endpoints ...string) *scene {
	t.Helper()
	s := &scene{
		shelf: new(shelf), registry: prometheus.NewRegistry(),
		makers: &makers{t: t, start: time.Now(), browsers: map[string]*browser{}},
	}
	var err error
	s.Outbox, err = New(t.Context(), Config{
		Devices: s.shelf, Secret: []byte("secret"), Contact: "mailto:ann@example.org", Transport: s.makers,
		Taken: func(id protocol.CallID) {
			s.makers.mu.Lock()
			defer s.makers.mu.Unlock()
			s.makers.taken = append(s.makers.taken, id)
		},
		Log: slog.New(slog.DiscardHandler), Registerer: s.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	s.stop = func() { cancel(); <-done }
	t.Cleanup(s.stop)
	for _, e := range endpoints {
		s.subscribe(t, "bob", e)
	}
	return s
}

func (s *scene) subscribe(t *testing.T, user protocol.UserID, endpoint string) {
	t.Helper()
	if s.makers.browsers[endpoint] == nil {
		s.makers.browsers[endpoint] = newBrowser(t)
	}
	if err := s.Subscribe(t.Context(), protocol.User{ID: user, Name: "B"}, s.makers.browsers[endpoint].subscription(endpoint)); err != nil {
		t.Fatal(err)
	}
}

// metric is the sum of a metric, or of its part with a cause.
func (s *scene) metric(t *testing.T, name, cause string) (sum float64) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (cause == "" || m.GetLabel()[0].GetValue() == cause) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func pushed(id protocol.CallID, state protocol.PushState) *protocol.Push {
	m := &protocol.Push{Call: id, State: state, From: protocol.User{ID: "ann", Name: "Ann"}, Video: true}
	if state == protocol.PushRinging {
		m.RingMs, m.Key = 60_000, "key"
	}
	return m
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestEveryDeviceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone, laptop)
		s.Push("nobody", pushed("c0", protocol.PushRinging))
		s.Push("bob", pushed("c1", protocol.PushRinging))
		pass(5 * time.Second)
		s.Push("bob", pushed("c1", protocol.PushElsewhere))
		pass(time.Second)
		s.Push("bob", pushed("c2", protocol.PushMissed))
		synctest.Wait()
		type seen struct{ URL, Call, State, TTL, Urgency string }
		var got []seen
		topics := map[protocol.CallID]string{}
		for _, d := range s.makers.deliveries {
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
		if diff := cmp.Diff([]protocol.CallID{"c1", "c1"}, s.makers.taken); diff != "" {
			t.Errorf("taken (-want +got):\n%s", diff)
		}
		if s.metric(t, "visavis_pushes_sent_total", "") != 6 || s.metric(t, "visavis_push_devices", "") != 2 {
			t.Error("metrics are wrong")
		}
	})
}

// TestWhoSends verifies a signature as a push service does.
func TestWhoSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		s.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		auth, ok := strings.CutPrefix(s.makers.deliveries[0].header.Get("Authorization"), "vapid t=")
		token, key, ok2 := strings.Cut(auth, ",k=")
		if !ok || !ok2 || key != s.Key() {
			t.Fatalf("authorization %q", auth)
		}
		part := strings.Split(token, ".")
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw(t, key))
		if err != nil {
			t.Fatal(err)
		}
		hash, signature := sha256.Sum256([]byte(part[0]+"."+part[1])), raw(t, part[2])
		r, sig := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if len(signature) != 64 || !ecdsa.Verify(public, hash[:], r, sig) {
			t.Error("the signature is wrong")
		}
		var claims struct {
			Aud, Sub string
			Exp      int64
		}
		if err := json.Unmarshal(raw(t, part[1]), &claims); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(time.Unix(claims.Exp, 0)); left < time.Hour || left > 24*time.Hour {
			t.Errorf("good for %v", left)
		}
		if claims.Aud != "https://fcm.googleapis.com" || claims.Sub != "mailto:ann@example.org" || string(raw(t, part[0])) != `{"typ":"JWT","alg":"ES256"}` {
			t.Errorf("claims %+v, header %s", claims, raw(t, part[0]))
		}
		again := newScene(t)
		if again.Key() != s.Key() {
			t.Error("the key changes with a restart")
		}
	})
}

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
				s := newScene(t, phone)
				s.makers.answer = test.answer
				s.Push("bob", pushed("c1", protocol.PushRinging))
				pass(2 * time.Minute)
				if len(s.makers.deliveries) != test.tries || (len(s.makers.taken) == 1) != test.taken {
					t.Fatalf("%d tries, taken %v", len(s.makers.deliveries), s.makers.taken)
				}
				last := s.makers.deliveries[test.tries-1]
				if last.after < test.within[0] || last.after > test.within[1] {
					t.Errorf("the last try after %v", last.after)
				}
				if left := 60_000 - last.after.Milliseconds(); last.message.RingMs > left || last.message.RingMs < left-1 {
					t.Errorf("after %v it rings for %d ms", last.after, last.message.RingMs)
				}
				if s.letters != 0 || s.busy != 0 {
					t.Errorf("%d letters, %d goroutines are left", s.letters, s.busy)
				}
			})
		})
	}
}

func TestARingIsNotPushedWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		s.makers.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return 500, nil, 0, nil }
		s.Push("bob", pushed("c1", protocol.PushRinging))
		pass(10 * time.Minute)
		n := len(s.makers.deliveries)
		if last := s.makers.deliveries[n-1]; n < 5 || last.after > time.Minute {
			t.Errorf("%d tries, the last after %v", n, last.after)
		}
		if s.metric(t, "visavis_pushes_dropped_total", droppedExpired) != 1 || s.metric(t, "visavis_pushes_retried_total", "") != float64(n) {
			t.Error("metrics are wrong")
		}
	})
}

func TestTheEndOfARingIsToldWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		s.Push("bob", pushed("c1", protocol.PushRinging))
		pass(time.Minute)
		s.Push("bob", pushed("c1", protocol.PushElsewhere))
		synctest.Wait()
		if n := len(s.makers.deliveries); n != 2 || s.makers.deliveries[1].header.Get("TTL") != "1" {
			t.Errorf("%d deliveries: %+v", n, s.makers.deliveries)
		}
	})
}

// TestARingDoesNotWaitForWhatWasBefore lets a missed call fail for long, and so be
// tried every few minutes only.
func TestARingDoesNotWaitForWhatWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		status := 500
		s.makers.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return status, nil, 0, nil }
		s.Push("bob", pushed("c1", protocol.PushMissed))
		pass(3 * time.Hour)
		n := len(s.makers.deliveries)
		if n > 50 {
			t.Errorf("%d tries in three hours", n)
		}
		status = 201
		at := time.Since(s.makers.start)
		s.Push("bob", pushed("c2", protocol.PushRinging))
		synctest.Wait()
		for i, id := range []protocol.CallID{"c1", "c2"} {
			if got := s.makers.deliveries[n+i]; got.message.Call != id || got.after != at {
				t.Errorf("%s %v after %v, want %s after %v", got.message.Call, got.message.State, got.after, id, at)
			}
		}
	})
}

// TestTheLastWordOfACall lets what became of a call come while its ring is on the way.
func TestTheLastWordOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		var status int
		var after time.Duration
		s.makers.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return status, nil, after, nil }
		expect := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, s.makers.told()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		status, after = 201, 5*time.Second
		s.Push("bob", pushed("c1", protocol.PushRinging))
		pass(time.Second)
		s.Push("bob", pushed("c1", protocol.PushMissed))
		pass(time.Second)
		expect("it never overtakes", "c1 ringing")
		pass(10 * time.Second)
		expect("it follows", "c1 ringing", "c1 missed")

		status, after = 503, 0
		s.makers.deliveries = nil
		s.Push("bob", pushed("c2", protocol.PushRinging))
		synctest.Wait()
		status = 201
		s.Push("bob", pushed("c2", protocol.PushEnded))
		pass(time.Minute)
		expect("it replaces what waits to be tried again", "c2 ringing", "c2 ended")

		status, after = 503, 2*time.Second
		s.makers.deliveries = nil
		s.Push("bob", pushed("c3", protocol.PushRinging))
		pass(time.Second)
		status, after = 201, 0
		s.Push("bob", pushed("c3", protocol.PushElsewhere))
		pass(time.Minute)
		expect("it replaces what failed meanwhile", "c3 ringing", "c3 elsewhere")
		if s.letters != 0 || s.busy != 0 {
			t.Errorf("%d letters, %d goroutines are left", s.letters, s.busy)
		}
	})
}

func TestWhatAPushServiceRefuses(t *testing.T) {
	for status, forgotten := range map[int]bool{404: true, 410: true, 403: true, 400: false, 401: false, 413: false, 302: false} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, phone, laptop)
				s.makers.answer = func(_ int, d delivery) (int, http.Header, time.Duration, error) {
					if d.url == laptop {
						return 201, nil, 0, nil
					}
					return status, http.Header{"Location": {laptop}}, 0, nil
				}
				s.Push("bob", pushed("c1", protocol.PushRinging))
				pass(2 * time.Minute)
				if got := s.makers.told(); len(got) != 2 {
					t.Errorf("told %v", got)
				}
				want := []string{phone, laptop}
				cause := refusedOther
				if forgotten {
					want, cause = want[1:], refusedGone
				}
				if diff := cmp.Diff(want, s.shelf.endpoints()); diff != "" {
					t.Errorf("kept (-want +got):\n%s", diff)
				}
				if s.count() != len(want) || s.metric(t, "visavis_pushes_refused_total", cause) != 1 {
					t.Errorf("%d devices are known", s.count())
				}
				if len(s.makers.taken) != 1 {
					t.Errorf("taken %v", s.makers.taken)
				}
			})
		})
	}
}

func TestTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone, laptop)
		third := "https://web.push.apple.com/third"
		s.subscribe(t, "bob", third)
		s.makers.answer = func(_ int, d delivery) (int, http.Header, time.Duration, error) {
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
		for _, d := range s.makers.deliveries {
			if d.url == phone {
				got = append(got, string(d.message.State))
			}
		}
		if diff := cmp.Diff([]string{"ringing", "ended"}, got); diff != "" || len(s.makers.deliveries) != 4 {
			t.Errorf("%d deliveries; to the phone (-want +got):\n%s", len(s.makers.deliveries), diff)
		}
		if s.letters != 0 || s.busy != 0 {
			t.Errorf("%d letters, %d goroutines are left", s.letters, s.busy)
		}
	})
}

func TestTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		s.makers.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return 503, nil, 0, nil }
		s.Push("bob", pushed("c0", protocol.PushMissed))
		synctest.Wait()
		for i := range maxLetters + 5 {
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

// Only somebody who was in a call is rung while no page is open. Devices that are there stay.
func TestSubscribingTakesACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		has, fails := false, error(nil)
		s.cfg.HasCalled = func(context.Context, protocol.UserID) (bool, error) { return has, fails }
		s.makers.browsers[phone], s.makers.browsers[laptop] = newBrowser(t), newBrowser(t)
		subscribe := func(user protocol.UserID, endpoint string) protocol.Code {
			err := s.Subscribe(t.Context(), protocol.User{ID: user}, s.makers.browsers[endpoint].subscription(endpoint))
			if refused := (*protocol.Error)(nil); errors.As(err, &refused) {
				return refused.Code
			}
			return ""
		}
		if got := subscribe("bob", phone); got != protocol.CodeNoCallYet {
			t.Errorf("before a call: %q", got)
		}
		fails = errors.New("the database is down")
		if got := subscribe("bob", phone); got != protocol.CodeUnavailable {
			t.Errorf("when that cannot be told: %q", got)
		}
		has, fails = true, nil
		if got := subscribe("bob", phone); got != "" {
			t.Errorf("after a call: %q", got)
		}
		has, fails = false, errors.New("the database is down")
		if got := subscribe("bob", phone); got != "" {
			t.Errorf("renewed: %q", got)
		}
		if got := subscribe("bob", laptop); got != "" {
			t.Errorf("another device of somebody who has one: %q", got)
		}
		if got := subscribe("guest", phone); got != "" {
			t.Errorf("a browser whose person is another guest now: %q", got)
		}
		s.SignOut("bob")
		if _, _, ok := s.Reachable("bob"); ok {
			t.Error("Bob can be rung after signing out")
		}
		if _, _, ok := s.Reachable("guest"); !ok {
			t.Error("the other one cannot")
		}
		s.SignOut("unobody")
	})
}

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		if _, _, ok := s.Reachable("bob"); ok {
			t.Error("bob is reachable without a device")
		}
		var all []string
		for i := range maxUserDevices {
			all = append(all, fmt.Sprint(phone, i))
			s.subscribe(t, "bob", all[i])
			pass(time.Second)
		}
		s.subscribe(t, "bob", all[0]) // renewed: the second is the oldest now
		s.subscribe(t, "bob", laptop)
		want := append(append([]string{}, all[2:]...), all[0], laptop)
		if diff := cmp.Diff(want, s.shelf.endpoints()); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
		if user, dnd, ok := s.Reachable("bob"); !ok || dnd || user.Name != "B" {
			t.Errorf("reachable: %+v %v %v", user, dnd, ok)
		}

		quiet := s.makers.browsers[laptop].subscription(laptop)
		quiet.DoNotDisturb = true
		if err := s.Subscribe(t.Context(), protocol.User{ID: "bob", Name: "Bobby", Presence: protocol.Online}, quiet); err != nil {
			t.Fatal(err)
		}
		if user, dnd, _ := s.Reachable("bob"); !dnd || user != (protocol.User{ID: "bob", Name: "Bobby"}) {
			t.Errorf("reachable: %+v %v", user, dnd)
		}

		s.subscribe(t, "cy", laptop) // the browser is someone else's now
		s.Push("bob", pushed("c1", protocol.PushRinging))
		s.Push("cy", pushed("c2", protocol.PushRinging))
		synctest.Wait()
		for _, d := range s.makers.deliveries {
			if (d.url == laptop) != (d.message.Call == "c2") {
				t.Errorf("%s was told of %s", d.url, d.message.Call)
			}
		}
		if err := s.Unsubscribe(t.Context(), "bob", laptop); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := s.Reachable("cy"); !ok {
			t.Error("bob has unsubscribed cy's device")
		}
		for range 2 {
			if err := s.Unsubscribe(t.Context(), "cy", laptop); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, ok := s.Reachable("cy"); ok || slices.Contains(s.shelf.endpoints(), laptop) {
			t.Error("cy is still reachable")
		}

		s.shelf.fails = true
		if err := s.Subscribe(t.Context(), protocol.User{ID: "cy"}, quiet); err == nil {
			t.Error("a device is subscribed that is not kept")
		}
		if _, _, ok := s.Reachable("cy"); ok {
			t.Error("cy is reachable until the next start only")
		}
	})
}

func TestADeviceThatIsNotRenewedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := newScene(t, phone)
		pass(forgetAfter - time.Hour)
		before.subscribe(t, "ann", laptop)
		pass(time.Hour)
		o, err := New(t.Context(), Config{Devices: before.shelf, Secret: []byte("secret"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		_, _, bob := o.Reachable("bob")
		_, _, ann := o.Reachable("ann")
		if bob || !ann || !slices.Equal(before.shelf.endpoints(), []string{laptop}) {
			t.Errorf("bob reachable: %v, ann: %v, kept %v", bob, ann, before.shelf.endpoints())
		}
	})
}

func TestAMovedDeviceIsNotToldWhatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone)
		s.makers.answer = func(int, delivery) (int, http.Header, time.Duration, error) { return 503, nil, 0, nil }
		s.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		s.subscribe(t, "cy", phone)
		pass(2 * time.Minute)
		if got := s.makers.told(); len(got) != 1 || s.letters != 0 || s.busy != 0 {
			t.Errorf("told %v; %d letters, %d goroutines are left", got, s.letters, s.busy)
		}
	})
}

// TestDevicesOutliveARestart also has one of a push service that is allowed no more.
func TestDevicesOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := newScene(t, phone, laptop)
		o, err := New(t.Context(), Config{
			Devices: before.shelf, Secret: []byte("secret"), Transport: before.makers, Services: []string{"fcm.googleapis.com"},
			Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := o.Reachable("bob"); !ok {
			t.Error("bob was forgotten")
		}
		o.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		if len(before.makers.deliveries) != 1 || before.makers.deliveries[0].url != phone || o.letters != 0 {
			t.Errorf("told %v, %d letters are left", before.makers.told(), o.letters)
		}
	})
}

func TestWhatCannotBeSubscribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		good := newBrowser(t).subscription(phone)
		change := func(f func(*protocol.Subscription)) *protocol.Subscription {
			changed := *good
			f(&changed)
			return &changed
		}
		to := func(endpoint string) *protocol.Subscription {
			return change(func(s *protocol.Subscription) { s.Endpoint = endpoint })
		}
		offCurve := raw(t, good.Keys.P256dh)
		offCurve[64] ^= 1
		for name, bad := range map[string]*protocol.Subscription{
			"nothing":             {},
			"a long endpoint":     to(phone + strings.Repeat("x", 2<<10)),
			"a line break":        to(phone + "\r\nx"),
			"another host":        to("https://169.254.169.254/latest"),
			"an address":          to("https://127.0.0.1/"),
			"plain http":          to("http://fcm.googleapis.com/x"),
			"another port":        to("https://fcm.googleapis.com:8443/x"),
			"a name in the URL":   to("https://fcm.googleapis.com@evil.example/x"),
			"a user in the URL":   to("https://me@fcm.googleapis.com/x"),
			"a name below":        to("https://fcm.googleapis.com.evil.example/x"),
			"a name beside":       to("https://evilpush.apple.com/x"),
			"the domain itself":   to("https://push.apple.com/x"),
			"no key":              change(func(s *protocol.Subscription) { s.Keys.P256dh = "" }),
			"a key off the curve": change(func(s *protocol.Subscription) { s.Keys.P256dh = base64.RawURLEncoding.EncodeToString(offCurve) }),
			"a compressed key": change(func(s *protocol.Subscription) {
				point := append([]byte{2 + offCurve[64]&1}, offCurve[1:33]...)
				s.Keys.P256dh = base64.RawURLEncoding.EncodeToString(point)
			}),
			"the point at infinity": change(func(s *protocol.Subscription) { s.Keys.P256dh = "AA" }),
			"a short secret":        change(func(s *protocol.Subscription) { s.Keys.Auth = "AAAA" }),
			"no base64":             change(func(s *protocol.Subscription) { s.Keys.Auth = "!" }),
		} {
			err := s.Subscribe(t.Context(), protocol.User{ID: "bob"}, bad)
			if listed := (*protocol.Error)(nil); !errors.As(err, &listed) || listed.Code != protocol.CodeBadMessage {
				t.Errorf("%s: got %v", name, err)
			}
		}
		for _, endpoint := range []string{
			phone, laptop, "https://jmt17.google.com/fcm/send/x", "https://web.push.apple.com/Q", "https://wns2-am3p.notify.windows.com/w/?token=B%2fQ", "HTTPS://FCM.googleapis.com:443/x",
		} {
			if err := s.Subscribe(t.Context(), protocol.User{ID: "bob"}, to(endpoint)); err != nil {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
		padded := change(func(s *protocol.Subscription) { s.Keys.Auth += "=="; s.Keys.P256dh += "=" })
		if err := s.Subscribe(t.Context(), protocol.User{ID: "bob"}, padded); err != nil {
			t.Errorf("padded: %v", err)
		}
	})
}

func TestServices(t *testing.T) {
	for entry, want := range map[string]bool{
		"push.example.org": true, "*.push.example.org": true, "http://127.0.0.1:9000": true, "https://push.example.org": true,
		"": false, "*": false, "*.": false, "com": false, "push.example.org/x": false, "push.example.org:443": false, "127.0.0.1": false,
		"**.example.org": false, "*example.org": false, ".example.org": false, "https://push.example.org/x": false, "ftp://push.example.org": false,
		"https://me@push.example.org": false,
	} {
		if err := CheckService(entry); (err == nil) != want {
			t.Errorf("%q: %v", entry, err)
		}
	}
	for _, entry := range DefaultServices() {
		if err := CheckService(entry); err != nil {
			t.Error(err)
		}
	}
}

func TestADeviceWithAPageThatIsSeenIsToldOnlyOfWhatItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, phone, laptop)
		sum := sha256.Sum256([]byte(phone))
		id := base64.RawURLEncoding.EncodeToString(sum[:])
		s.Push("bob", pushed("c1", protocol.PushRinging), id)
		pass(time.Second)
		s.Push("bob", pushed("c1", protocol.PushMissed), id)
		pass(time.Second)
		s.Push("bob", pushed("c2", protocol.PushRinging), id)
		pass(time.Second)
		s.Push("bob", pushed("c2", protocol.PushRinging)) // the page is hidden
		pass(time.Minute + time.Second)                   // the ring is over
		s.Push("bob", pushed("c2", protocol.PushMissed), id)
		synctest.Wait()
		got := map[string][]string{}
		for _, d := range s.makers.deliveries {
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
