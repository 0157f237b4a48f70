package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/visavis/visavis/client"
	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

// serverURL is the node of all tests and the example.
var serverURL string

func TestMain(m *testing.M) {
	data, err := os.MkdirTemp("", "client-test-")
	if err != nil {
		log.Fatal(err)
	}
	n, stop, err := nodetest.Run(slog.New(slog.DiscardHandler), func(cfg *node.Config) { cfg.Data = data })
	if err != nil {
		log.Fatal(err)
	}
	serverURL = n.URL()
	code := m.Run()
	if err := errors.Join(stop(), os.RemoveAll(data), goleak.Find()); err != nil {
		log.Print(err)
		code = 1
	}
	os.Exit(code)
}

// patience bounds a test's waits.
const patience = 10 * time.Second

// network is a client's way to the server, which a test can cut.
type network struct {
	to string // another address than the client's; empty for that one

	mu   sync.Mutex
	down bool
	conn net.Conn
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, errors.New("the network is down")
	}
	if n.to != "" {
		address = n.to
	}
	conn, err := new(net.Dialer).DialContext(ctx, kind, address)
	n.conn = conn
	return conn, err
}

// cut breaks the connection; after it the network is up or down.
func (n *network) cut(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	_ = n.conn.Close()
}

// enter connects a client until the test ends.
func enter(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = serverURL
	}
	c, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func guest(name string) protocol.Hello { return protocol.Hello{Name: name} }

func send(t *testing.T, c *client.Client, m protocol.Message) {
	t.Helper()
	if err := c.Send(m); err != nil {
		t.Fatal(err)
	}
}

func await[M protocol.Message](t *testing.T, c *client.Client) M {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := client.Await[M](ctx, c)
	if err != nil {
		t.Fatalf("no %T came: %v", m, err)
	}
	return m
}

// ended waits until a client has ended.
func ended(t *testing.T, c *client.Client) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the client goes on")
	}
}

// refusal awaits an error message of the server.
func refusal(t *testing.T, c *client.Client) *protocol.Error {
	t.Helper()
	return await[*protocol.Error](t, c)
}

// connected puts two clients in a call.
func connected(t *testing.T, caller, callee *client.Client) protocol.CallID {
	t.Helper()
	send(t, caller, &protocol.Ring{To: callee.Welcome().User.ID})
	call := await[*protocol.Ring](t, callee).Call
	send(t, callee, &protocol.Accept{Call: call})
	await[*protocol.Accept](t, callee)
	await[*protocol.Accept](t, caller)
	return call
}

func TestRefusedHello(t *testing.T) {
	enter(t, client.Config{Hello: guest("Ann the first")})
	for _, test := range []struct {
		hello protocol.Hello
		want  protocol.Code
	}{
		{guest("ANN THE FIRST"), protocol.CodeNameTaken},
		{guest(""), protocol.CodeBadName},
		{protocol.Hello{Token: "forged"}, protocol.CodeUnauthorized},
		{protocol.Hello{Version: 2, Name: "Bob"}, protocol.CodeVersion},
	} {
		_, err := client.Dial(t.Context(), client.Config{URL: serverURL, Hello: test.hello})
		var refused *protocol.Error
		var closed *client.CloseError
		if !errors.As(err, &refused) || refused.Code != test.want {
			t.Errorf("%+v: got %v, want %s", test.hello, err, test.want)
		}
		if !errors.As(err, &closed) || closed.Code != protocol.CloseRefused {
			t.Errorf("%+v: got %v, want close code %d", test.hello, err, protocol.CloseRefused)
		}
	}
}

func TestAGuestWithAnUnknownTokenComesInByName(t *testing.T) {
	c := enter(t, client.Config{Hello: protocol.Hello{Name: "Ann the forgotten", Token: "g2.MZXW6YTBOI3DQNZSGY2TMNRXGA"}})
	if w := c.Welcome(); w.User.Name != "Ann the forgotten" || w.Token == "" {
		t.Errorf("welcome: %+v", w)
	}
}

func TestServersThatOpenNoWebSocket(t *testing.T) {
	listed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(protocol.JSON(protocol.Errorf(protocol.CodeRestarting, "soon")))
	}))
	defer listed.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	for url, want := range map[string]string{
		listed.URL:                           "restarting: soon",
		other.URL:                            "HTTP status 404",
		"http://" + nobody.Addr().String():   "connection refused",
		"":                                   "must begin with http:// or https://",
		"call.example.org":                   "must begin with http:// or https://",
		"ftp://call.example.org":             "must begin with http:// or https://",
		"https://":                           "must be a scheme and a host",
		"https://call.example.org/v1/signal": "must be a scheme and a host",
		"https://call.example.org?token=x":   "must be a scheme and a host",
		"http://call.example.org:x":          "server URL",
	} {
		if _, err := client.Dial(t.Context(), client.Config{URL: url, Hello: guest("Ann")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", url, err, want)
		}
	}
}

func TestDialOverTLS(t *testing.T) {
	url := nodetest.Start(t, func(c *node.Config) { c.TLS.Mode = node.TLSSelfSigned }).URL()
	if _, err := client.Dial(t.Context(), client.Config{URL: url, Hello: guest("Ann")}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: got %v", err)
	}
	ann := enter(t, client.Config{URL: url, Hello: guest("Ann"), TLS: &tls.Config{InsecureSkipVerify: true}}) //nolint:gosec // a test's own certificate
	if name := ann.Welcome().User.Name; name != "Ann" {
		t.Errorf("came in as %q", name)
	}
	token := ann.Welcome().Token
	_ = ann.Close()
	again := enter(t, client.Config{URL: url, Hello: protocol.Hello{Token: token}, TLS: &tls.Config{InsecureSkipVerify: true}}) //nolint:gosec // the same
	if got := again.Welcome(); got.User.ID != ann.Welcome().User.ID || got.Resumed {
		t.Errorf("came back as %+v, resumed: %v", got.User, got.Resumed)
	}
}

// TestDialEndsWithItsContext connects to a server that says nothing.
func TestDialEndsWithItsContext(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	for scheme, wait := range map[string]time.Duration{"http": 0, "https": 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if _, err := client.Dial(ctx, client.Config{URL: scheme + "://" + mute.Addr().String(), Hello: guest("Ann")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want %v", scheme, err, context.DeadlineExceeded)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	dialed := make(chan error)
	go func() {
		_, err := client.Dial(ctx, client.Config{URL: "http://" + mute.Addr().String(), Hello: guest("Ann")})
		dialed <- err
	}()
	cancel()
	if err := <-dialed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestTheContextOfDialMayEndAfterIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var lost network
	ann, err := client.Dial(ctx, client.Config{URL: serverURL, Hello: guest("Ann who stays"), Dial: lost.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ann.Close() }()
	cancel()
	lost.cut(false)
	if w := await[*protocol.Welcome](t, ann); !w.Resumed {
		t.Errorf("welcome: %+v", w)
	}
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	ann := enter(t, client.Config{Hello: guest("Ann who waits")})
	ctx, cancel := context.WithCancel(t.Context())
	received := make(chan error)
	go func() {
		_, err := ann.Receive(ctx)
		received <- err
	}()
	cancel()
	if err := <-received; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := ann.Err(); err != nil {
		t.Errorf("the client has ended: %v", err)
	}
}

// TestAReplacedClientStaysAway: two that took the session from each other would never end.
func TestAReplacedClientStaysAway(t *testing.T) {
	ann := enter(t, client.Config{Hello: guest("Ann the replaced")})
	w := ann.Welcome()
	enter(t, client.Config{Hello: protocol.Hello{Token: w.Token, Resume: w.Resume}})
	ended(t, ann)
	if closed := (*client.CloseError)(nil); !errors.As(ann.Err(), &closed) || closed.Code != protocol.CloseReplaced {
		t.Errorf("got %v, want close code %d", ann.Err(), protocol.CloseReplaced)
	}
	if err := ann.Send(&protocol.Decline{Call: "n1-none"}); !errors.Is(err, ann.Err()) {
		t.Errorf("send: got %v, want %v", err, ann.Err())
	}
}

func TestCloseEndsTheSession(t *testing.T) {
	ann := enter(t, client.Config{Hello: guest("Ann who leaves")})
	bob := enter(t, client.Config{Hello: guest("Bob who stays")})
	connected(t, ann, bob)
	if err := ann.Close(); err != nil {
		t.Fatal(err)
	}
	if got := await[*protocol.Ended](t, bob); got.Reason != protocol.ReasonHungup {
		t.Errorf("ended: %+v", got)
	}
	for name, err := range map[string]error{
		"Err": ann.Err(), "Send": ann.Send(&protocol.Decline{Call: "n1-none"}), "Close": func() error {
			_ = ann.Close()
			for {
				if _, err := ann.Receive(t.Context()); err != nil {
					return err
				}
			}
		}(),
	} {
		if !errors.Is(err, client.ErrClosed) {
			t.Errorf("%s: got %v, want %v", name, err, client.ErrClosed)
		}
	}
}

// TestCloseWhileTheConnectionIsLost does not wait for the next one.
func TestCloseWhileTheConnectionIsLost(t *testing.T) {
	var lost network
	ann := enter(t, client.Config{Hello: guest("Ann who gives up"), Dial: lost.dial})
	lost.cut(true)
	for range 3 {
		send(t, ann, &protocol.Decline{Call: "n1-none"})
	}
	_ = ann.Close()
	if !errors.Is(ann.Err(), client.ErrClosed) {
		t.Errorf("got %v, want %v", ann.Err(), client.ErrClosed)
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	ann := enter(t, client.Config{Hello: guest("Ann the wrong")})
	for _, test := range []struct {
		message protocol.Message
		want    protocol.Code
	}{
		{&protocol.Hello{Version: 1}, protocol.CodeWrongState},
		{&protocol.Pong{}, protocol.CodeWrongState},
		{&protocol.Accept{}, protocol.CodeBadMessage},
		{&protocol.Offer{Call: "n1-x", Description: protocol.Description{Type: "offer", SDP: strings.Repeat("x", protocol.MaxSDP+1)}}, protocol.CodeBadDescription},
	} {
		err := ann.Send(test.message)
		if refused := (*protocol.Error)(nil); !errors.As(err, &refused) || refused.Code != test.want {
			t.Errorf("%s: got %v, want %s", test.message.Type(), err, test.want)
		}
	}
	// Nothing of it was sent or counted.
	send(t, ann, &protocol.Ring{Ref: "1", To: ann.Welcome().User.ID})
	if got := refusal(t, ann); got.Code != protocol.CodeSelf {
		t.Errorf("got %v", got)
	}
}

func TestAwaitReturnsWhatTheServerRefuses(t *testing.T) {
	ann := enter(t, client.Config{Hello: guest("Ann who is refused")})
	send(t, ann, &protocol.Ring{Ref: "1", To: ann.Welcome().User.ID})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := client.Await[*protocol.Calling](ctx, ann)
	if refused := (*protocol.Error)(nil); !errors.As(err, &refused) || refused.Code != protocol.CodeSelf || refused.Ref != "1" {
		t.Errorf("got %v, want %s", err, protocol.CodeSelf)
	}
}

func TestHandleTakesMessagesInOrder(t *testing.T) {
	got := make(chan protocol.Message, 64)
	bob := enter(t, client.Config{Hello: guest("Bob who handles"), Handle: func(m protocol.Message) { got <- m }})
	ann := enter(t, client.Config{Hello: guest("Ann who rings")})
	send(t, ann, &protocol.Ring{To: bob.Welcome().User.ID})
	next := func() protocol.Message {
		select {
		case m := <-got:
			return m
		case <-time.After(patience):
			t.Fatal("nothing came")
			return nil
		}
	}
	ring, ok := next().(*protocol.Ring)
	if !ok {
		t.Fatal("the first message is no ring")
	}
	send(t, bob, &protocol.Accept{Call: ring.Call})
	if m := next(); m.Type() != "accept" {
		t.Errorf("got %s, want accept", m.Type())
	}
	_ = bob.Close()
	if _, err := bob.Receive(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("got %v, want %v", err, client.ErrClosed)
	}
}
