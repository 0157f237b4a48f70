package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/protocol"
)

// fakeDevices keeps devices in memory.
type fakeDevices struct {
	mu      sync.Mutex
	devices []Device
	fails   bool // Keep fails
	hangs   bool // Forget hangs until its context ends
}

func (f *fakeDevices) All(context.Context) ([]Device, error) { return slices.Clone(f.devices), nil }

func (f *fakeDevices) Keep(_ context.Context, d Device) error {
	if f.fails {
		return errors.New("no database")
	}
	_ = f.Forget(context.Background(), d.Endpoint)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devices = append(f.devices, d)
	return nil
}

func (f *fakeDevices) Forget(ctx context.Context, endpoint string) error {
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.devices = slices.DeleteFunc(f.devices, func(d Device) bool { return d.Endpoint == endpoint })
	return nil
}

// endpoints returns the endpoints of the kept devices.
func (f *fakeDevices) endpoints() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []string{}
	for _, d := range f.devices {
		all = append(all, d.Endpoint)
	}
	return all
}

// delivery is one request that arrived at a push service.
type delivery struct {
	after   time.Duration // since the start of the test
	url     string
	header  http.Header
	message *protocol.Push
}

// fakeTransport is an http.RoundTripper that stands in for all push services. answer decides on each delivery.
type fakeTransport struct {
	t        *testing.T
	start    time.Time
	browsers map[string]*browser // by endpoint; set before use
	answer   func(n int, d delivery) (status int, header http.Header, after time.Duration, err error)

	mu         sync.Mutex
	deliveries []delivery // guarded by mu, as all below
	taken      []protocol.CallID
}

func (f *fakeTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	d := delivery{after: time.Since(f.start), url: r.URL.String(), header: r.Header}
	text, err := f.browsers[d.url].open(body)
	if err != nil {
		f.t.Errorf("%s gets what it cannot read: %v", d.url, err)
		return nil, err
	}
	message, _, err := protocol.Decode(text)
	if err != nil {
		return nil, err
	}
	d.message, _ = message.(*protocol.Push)
	f.mu.Lock()
	n := len(f.deliveries)
	f.deliveries = append(f.deliveries, d)
	f.mu.Unlock()
	status, header, after, err := http.StatusCreated, http.Header{}, time.Duration(0), error(nil)
	if f.answer != nil {
		status, header, after, err = f.answer(n, d)
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

// delivered returns the deliveries so far, as call and state.
func (f *fakeTransport) delivered() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []string{}
	for _, d := range f.deliveries {
		all = append(all, fmt.Sprintf("%s %s", d.message.Call, d.message.State))
	}
	return all
}

// testOutbox is an outbox that runs in a bubble of synctest, with its fakes.
type testOutbox struct {
	*Outbox
	kept      *fakeDevices
	transport *fakeTransport
	registry  *prometheus.Registry
	stop      func()
}

const (
	phone  = "https://fcm.googleapis.com/fcm/send/phone"
	laptop = "https://updates.push.services.mozilla.com/wpush/v2/laptop"
)

func newTestOutbox(t *testing.T, endpoints ...string) *testOutbox {
	t.Helper()
	s := &testOutbox{
		kept: new(fakeDevices), registry: prometheus.NewRegistry(),
		transport: &fakeTransport{t: t, start: time.Now(), browsers: map[string]*browser{}},
	}
	var err error
	s.Outbox, err = New(t.Context(), Config{
		Devices: s.kept, Secret: []byte("secret"), Contact: "mailto:ann@example.org", Transport: s.transport,
		Taken: func(id protocol.CallID) {
			s.transport.mu.Lock()
			defer s.transport.mu.Unlock()
			s.transport.taken = append(s.transport.taken, id)
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

func (s *testOutbox) subscribe(t *testing.T, user protocol.UserID, endpoint string) {
	t.Helper()
	if s.transport.browsers[endpoint] == nil {
		s.transport.browsers[endpoint] = newBrowser(t)
	}
	if err := s.Subscribe(t.Context(), protocol.User{ID: user, Name: "B"}, s.transport.browsers[endpoint].subscription(endpoint)); err != nil {
		t.Fatal(err)
	}
}

// metric is the sum of a metric, or of its part with a cause.
func (s *testOutbox) metric(t *testing.T, name, cause string) (sum float64) {
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

// busy returns how many known devices have a goroutine.
func (s *testOutbox) busy() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.byEndpoint {
		if d.busy {
			n++
		}
	}
	return n
}

func pushed(id protocol.CallID, state protocol.PushState) *protocol.Push {
	m := &protocol.Push{Call: id, State: state, From: protocol.User{ID: "ann", Name: "Ann"}, Video: true}
	if state == protocol.PushRinging {
		m.RingMs, m.Key = 60_000, "key"
	}
	return m
}

// advance lets d pass in the bubble.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
