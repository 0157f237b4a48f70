package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

// fakePushDevices keeps the devices in memory.
type fakePushDevices struct {
	kept []string
	err  error
}

func (*fakePushDevices) Key() string { return "BKey" }

func (d *fakePushDevices) Subscribe(_ context.Context, user protocol.User, s *protocol.Subscription) error {
	d.kept = append(d.kept, strings.TrimSpace(user.Name+" "+s.Endpoint+" "+s.Keys.P256dh+" "+s.Keys.Auth+map[bool]string{true: " quiet"}[s.DoNotDisturb]))
	return d.err
}

func (d *fakePushDevices) Unsubscribe(_ context.Context, _ protocol.UserID, endpoint string) error {
	d.kept = append(d.kept, "not "+endpoint)
	return d.err
}

func (d *fakePushDevices) SignOut(user protocol.UserID) {
	d.kept = append(d.kept, "none of "+string(user))
}

func withPush(d *fakePushDevices) func(*Config) {
	return func(c *Config) {
		c.Origins = []string{"https://app.example.org"}
		c.PushDevices = d
		c.Pushed = func(id protocol.CallID, key, act string) (*protocol.Push, *protocol.Error) {
			switch {
			case key != "k":
				return nil, &protocol.Error{Call: id, Code: protocol.CodeUnknownCall, Message: "there is no such call"}
			case act == "dance":
				return nil, protocol.Errorf(protocol.CodeBadMessage, "act")
			case act == "decline":
				return &protocol.Push{State: protocol.PushElsewhere}, nil
			}
			return &protocol.Push{Call: id, State: protocol.PushRinging, RingMs: 41_000, Key: key, From: protocol.User{ID: "u", Name: "Ann"}}, nil
		}
	}
}

func ask(s *Server, method, path, token, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("Origin", "https://app.example.org")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	s.routes().ServeHTTP(w, r)
	return w
}

func TestPushRoutes(t *testing.T) {
	d := new(fakePushDevices)
	s := serve(t, withPush(d))
	token := tokenOf(t, s, "Ann")
	const device = `{"endpoint":"https://p/1","expirationTime":null,"keys":{"p256dh":"B","auth":"A"},"doNotDisturb":true}`
	for _, test := range []struct {
		method, path, token, body string
		err                       error
		status                    int
		want                      string // in the answer
		kept                      []string
	}{
		{"GET", "/v1/push", "", "", nil, 200, `{"key":"BKey"}`, nil},
		{"PUT", "/v1/push", token, device, nil, 204, "", []string{"Ann https://p/1 B A quiet"}},
		{"PUT", "/v1/push", "", device, nil, 401, `"unauthorized"`, nil},
		{"PUT", "/v1/push", "g1.forged", device, nil, 401, `"unauthorized"`, nil},
		{"PUT", "/v1/push", token, "{", nil, 400, `"bad_message"`, nil},
		{"PUT", "/v1/push", token, `{"endpoint":"` + strings.Repeat("x", 8<<10) + `"}`, nil, 400, `"bad_message"`, nil},
		{"PUT", "/v1/push", token, device, protocol.Errorf(protocol.CodeBadMessage, "no"), 400, `"bad_message"`, []string{"Ann https://p/1 B A quiet"}},
		{"PUT", "/v1/push", token, device, protocol.Errorf(protocol.CodeFull, "no"), 503, `"full"`, []string{"Ann https://p/1 B A quiet"}},
		{"PUT", "/v1/push", token, device, errors.New("no database"), 500, `"internal"`, []string{"Ann https://p/1 B A quiet"}},
		{"DELETE", "/v1/push", token, `{"endpoint":"https://p/1"}`, nil, 204, "", []string{"not https://p/1"}},
		{"DELETE", "/v1/push", "", `{"endpoint":"https://p/1"}`, nil, 401, `"unauthorized"`, nil},
		{"DELETE", "/v1/push", token, `[]`, nil, 400, `"bad_message"`, nil},
		{"POST", "/v1/push", token, device, nil, 405, `"not_found"`, nil},
		{"POST", "/v1/pushed", "", `{"call":"c","key":"k","act":"ringing"}`, nil, 200, `{"state":"ringing","ringMs":41000}`, nil},
		{"POST", "/v1/pushed", "", `{"call":"c","key":"k","act":"decline"}`, nil, 200, `{"state":"elsewhere"}`, nil},
		{"POST", "/v1/pushed", "", `{"call":"c","key":"x","act":"ask"}`, nil, 404, `"unknown_call"`, nil},
		{"POST", "/v1/pushed", "", `{"call":"c","key":"k","act":"dance"}`, nil, 400, `"bad_message"`, nil},
		{"POST", "/v1/pushed", "", `{"key":"` + strings.Repeat("x", 4<<10) + `"}`, nil, 400, `"bad_message"`, nil},
		{"GET", "/v1/pushed", "", "", nil, 405, `"not_found"`, nil},
	} {
		d.kept, d.err = nil, test.err
		w := ask(s, test.method, test.path, test.token, test.body)
		body := strings.TrimSpace(w.Body.String())
		if w.Code != test.status || !strings.Contains(body, test.want) || strings.Contains(body, "database") {
			t.Errorf("%s %s %.60s: got %d %s, want %d %s", test.method, test.path, test.body, w.Code, body, test.status, test.want)
		}
		if diff := cmp.Diff(test.kept, d.kept); diff != "" {
			t.Errorf("%s %s %.60s (-want +got):\n%s", test.method, test.path, test.body, diff)
		}
		if got := w.Header().Get("Access-Control-Allow-Origin"); got != "https://app.example.org" {
			t.Errorf("%s %s: a page of %q may read it", test.method, test.path, got)
		}
	}
	preflight := ask(s, "OPTIONS", "/v1/push", "", "").Header()
	if got := preflight.Get("Access-Control-Allow-Methods"); got != "DELETE, GET, PUT, HEAD, OPTIONS" {
		t.Errorf("methods %q", got)
	}
	if got := preflight.Get("Access-Control-Allow-Headers"); got != "Authorization, Content-Type" {
		t.Errorf("headers %q", got)
	}
}

func TestWherePushIsOff(t *testing.T) {
	s := serve(t, func(c *Config) { c.Origins = []string{"https://app.example.org"} })
	for _, route := range [][2]string{{"GET", "/v1/push"}, {"PUT", "/v1/push"}, {"DELETE", "/v1/push"}, {"POST", "/v1/pushed"}} {
		if w := ask(s, route[0], route[1], "", "{}"); w.Code != 404 || !strings.Contains(w.Body.String(), `"not_found"`) {
			t.Errorf("%v: got %d %s", route, w.Code, w.Body)
		} else if w.Header().Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%v: a page elsewhere cannot know", route)
		}
	}
}

// One address must not fill up the places that there are for everybody's devices.
func TestDevicesOfAnAddressAreBounded(t *testing.T) {
	d := new(fakePushDevices)
	s := serve(t, withPush(d))
	const device = `{"endpoint":"https://p/1","keys":{"p256dh":"B","auth":"A"}}`
	var token string
	refused := 0
	for i := range deviceRate.Burst + 20 {
		if i%40 == 0 { // one user may not ask as often
			token = tokenOf(t, s, fmt.Sprint("Ann ", i))
		}
		switch w := ask(s, "PUT", "/v1/push", token, device); w.Code {
		case 204:
		case 429:
			refused++
		default:
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
	}
	if refused < 15 || len(d.kept) < deviceRate.Burst {
		t.Errorf("%d are refused and %d kept, want about 20 and %d", refused, len(d.kept), deviceRate.Burst)
	}
	if w := ask(s, "GET", "/v1/place", token, ""); w.Code != 200 {
		t.Errorf("other requests of that address: %d", w.Code)
	}
}
