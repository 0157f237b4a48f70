package socketio_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lxzan/gws"
	"go.uber.org/goleak"

	"github.com/visavis/visavis/internal/node/nodetest"
)

func TestEngineRequestsThatAreRefused(t *testing.T) {
	base := start(t) + "/socket.io/"
	bob := enter(t, strings.TrimSuffix(base, "/socket.io/"), "websocket", "Bob")
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "?EIO=4&transport=polling&sid=unknown", 400},
		{"POST", "?EIO=4&transport=polling&sid=unknown", 400},
		{"POST", "?EIO=4&transport=polling", 400},
		{"DELETE", "?EIO=4&transport=polling", 400},
		{"GET", "?EIO=3&transport=polling", 400},
		{"GET", "?transport=polling", 400},
		{"GET", "?EIO=4&transport=websocket", 400},
		{"GET", "?EIO=4&transport=webtransport", 400},
		{"GET", "?EIO=4&transport=polling&sid=" + bob.sid, 400},
		{"GET", "socket.io.js", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, resp.StatusCode, c.status)
		}
	}
	bob.emit("hangup", nil)
	bob.await("error")
}

// Two requests for packets at once, as no client makes them, end the connection.
func TestOverlappingRequests(t *testing.T) {
	base := start(t)
	v := enter(t, base, "polling", "Ann")
	v.take(v.get(url.Values{"EIO": {"4"}}))
	<-v.ended
}

// Only a WebSocket that has shown that it works takes over.
func TestAWebSocketThatDoesNotProbeTakesNothingOver(t *testing.T) {
	base := start(t)
	for i, frames := range [][]string{{"5"}, {"2probe", "40"}, {"2"}, {`42["hangup"]`}} {
		v := enter(t, base, "polling", fmt.Sprint("Ann ", i))
		socket, events := v.open(url.Values{"EIO": {"4"}})
		events.v = &visitor{t: t, news: make(chan struct{}, 1), ended: make(chan struct{})}
		go socket.ReadLoop()
		for _, f := range frames {
			_ = socket.WriteString(f)
		}
		v.emit("hangup", nil)
		v.await("error")
		_ = socket.NetConn().Close()
		<-events.v.ended
	}
}

// A server that stops lets go of every connection, in a way that the clients come back.
func TestTheServerStops(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		goleak.VerifyNone(t, ignore)
	})
	var visitors []*visitor
	t.Run("node", func(node *testing.T) {
		base := nodetest.Start(node, nil).URL()
		for _, ways := range transports {
			visitors = append(visitors, enter(t, base, ways, "Ann "+ways))
		}
		lost := enter(t, base, "websocket", "Bob")
		lost.cut()
		<-lost.ended
	})
	for _, v := range visitors {
		<-v.ended
		if slices.Contains(v.events(), "disconnect") {
			t.Errorf("%s: the client was told not to come back", v.ways)
		}
	}
}

func TestForeignOrigins(t *testing.T) {
	base := start(t)
	for _, c := range []struct {
		origin string
		status int
	}{
		{"", http.StatusOK},
		{base, http.StatusOK},
		{"http://localhost:5173", http.StatusOK},
		{"https://evil.example", http.StatusForbidden},
		{"null", http.StatusForbidden},
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			r, err := http.NewRequestWithContext(t.Context(), method, base+"/socket.io/?EIO=4&transport=polling", nil)
			if err != nil {
				t.Fatal(err)
			}
			want := c.status
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if want == http.StatusOK && method == http.MethodOptions {
				want = http.StatusNoContent
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s from %q: %d, want %d", method, c.origin, resp.StatusCode, want)
			}
			allowed := resp.Header.Get("Access-Control-Allow-Origin")
			if c.status == http.StatusOK && allowed != c.origin || c.status != http.StatusOK && allowed != "" {
				t.Errorf("%s from %q: allowed is %q", method, c.origin, allowed)
			}
		}
		//nolint:bodyclose // a WebSocket's answer has none
		socket, _, err := gws.NewClient(&gws.BuiltinEventHandler{}, &gws.ClientOption{
			Addr:          strings.Replace(base, "http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket",
			RequestHeader: http.Header{"Origin": {c.origin}},
		})
		if ok := err == nil; ok != (c.status == http.StatusOK) {
			t.Errorf("WebSocket from %q: %v", c.origin, err)
		}
		if err == nil {
			_ = socket.NetConn().Close()
		}
	}
}
