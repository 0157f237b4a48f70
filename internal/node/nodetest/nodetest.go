// Package nodetest starts whole nodes in tests, on free ports with a database of
// their own, and connects clients to them.
package nodetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/protocol"
)

// patience bounds every wait of this package.
const patience = 10 * time.Second

// Start runs a node until the test ends. change may alter its configuration.
func Start(t testing.TB, change func(*node.Config)) *node.Node {
	t.Helper()
	n, stop, err := Run(slog.New(slog.NewTextHandler(t.Output(), nil)), func(cfg *node.Config) {
		cfg.Data = t.TempDir()
		if change != nil {
			change(cfg)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("node: %v", err)
		}
	})
	return n
}

// Run runs a node until stop is called, for programs that have no test at hand, such as examples. change alters its
// configuration and must set Data.
func Run(log *slog.Logger, change func(*node.Config)) (n *node.Node, stop func() error, err error) {
	cfg := node.DefaultConfig()
	cfg.Listen, cfg.Relay.Listen, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Call.RingsPerMinute = 60
	change(&cfg)
	if n, err = node.New(cfg, log); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = func() error {
		cancel()
		err := <-ended
		http.DefaultClient.CloseIdleConnections()
		return err
	}
	if err := waitReady(n.URL()); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return n, stop, nil
}

func waitReady(url string) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a test's own certificate
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for deadline := time.Now().Add(patience); ; {
		resp, err := client.Get(url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("node is not ready: %w", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Client is one client's connection, driven by a test.
type Client struct {
	t       testing.TB
	socket  *gws.Conn
	Welcome *protocol.Welcome
	seq     uint64

	mu     sync.Mutex // guards all below
	inbox  []protocol.Message
	closed *gws.CloseError
	news   chan struct{} // one element: something changed
}

type inboxEvents struct {
	gws.BuiltinEventHandler
	c *Client
}

func (e *inboxEvents) OnMessage(_ *gws.Conn, message *gws.Message) {
	m, _, err := protocol.Decode(message.Bytes())
	_ = message.Close()
	if err != nil {
		e.c.t.Errorf("from the server: %v", err)
		return
	}
	e.c.change(func() { e.c.inbox = append(e.c.inbox, m) })
}

func (e *inboxEvents) OnClose(_ *gws.Conn, err error) {
	closed, ok := err.(*gws.CloseError) //nolint:errorlint // gws hands it over as it is
	if !ok {
		closed = &gws.CloseError{Code: 1006}
	}
	e.c.change(func() { e.c.closed = closed })
}

func (c *Client) change(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// Connect opens a WebSocket without saying hello.
func Connect(t testing.TB, url string) *Client {
	t.Helper()
	c := &Client{t: t, news: make(chan struct{}, 1)}
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(&inboxEvents{c: c}, &gws.ClientOption{
		Addr: strings.Replace(url, "http", "ws", 1) + "/v1/signal",
	})
	if err != nil {
		t.Fatal(err)
	}
	c.socket = socket
	ended := make(chan struct{})
	go func() { defer close(ended); socket.ReadLoop() }()
	t.Cleanup(func() {
		_ = socket.NetConn().Close()
		<-ended
	})
	return c
}

// Enter connects a guest and waits for the welcome.
func Enter(t testing.TB, url, name string) *Client {
	t.Helper()
	return Hello(t, url, &protocol.Hello{Version: protocol.Version, Name: name, Presence: true})
}

// Hello connects with a hello of the test's own and waits for the welcome.
func Hello(t testing.TB, url string, hello *protocol.Hello) *Client {
	t.Helper()
	c := Connect(t, url)
	c.SendFrame(protocol.Encode(hello))
	c.Welcome = Await[*protocol.Welcome](c)
	return c
}

// Send sends a message with the next number.
func (c *Client) Send(m protocol.Message) {
	c.t.Helper()
	c.seq++
	c.SendFrame(protocol.AppendNumbered(nil, protocol.Encode(m), c.seq))
}

// SendFrame sends any text.
func (c *Client) SendFrame(frame []byte) {
	c.t.Helper()
	if err := c.socket.WriteMessage(gws.OpcodeText, frame); err != nil {
		c.t.Fatal(err)
	}
}

// TrySend sends any text to a server that may have closed the connection.
func (c *Client) TrySend(frame []byte) error {
	return c.socket.WriteMessage(gws.OpcodeText, frame)
}

// SendBinary sends a binary frame.
func (c *Client) SendBinary(frame []byte) {
	c.t.Helper()
	if err := c.socket.WriteMessage(gws.OpcodeBinary, frame); err != nil {
		c.t.Fatal(err)
	}
}

// Cut ends the connection without a close frame.
func (c *Client) Cut() { _ = c.socket.NetConn().Close() }

// Leave closes the connection for good.
func (c *Client) Leave() { _ = c.socket.WriteClose(1000, nil) }

// AwaitPresence waits until a client is told of a user's presence. What else came before is
// dropped.
func AwaitPresence(c *Client, user protocol.UserID, presence protocol.Presence) {
	c.t.Helper()
	for {
		for _, u := range Await[*protocol.PresenceChange](c).Users {
			if u.ID == user && u.Presence == presence {
				return
			}
		}
	}
}

// Await is the next message of a type; those of others that came before are dropped.
func Await[M protocol.Message](c *Client) M {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		for len(c.inbox) > 0 {
			m := c.inbox[0]
			c.inbox = c.inbox[1:]
			if want, ok := m.(M); ok {
				c.mu.Unlock()
				return want
			}
		}
		closed := c.closed
		c.mu.Unlock()
		if closed != nil {
			c.t.Fatalf("closed with %d %s", closed.Code, closed.Reason)
		}
		select {
		case <-c.news:
		case <-timeout:
			c.t.Fatalf("no %s came", fmt.Sprintf("%T", *new(M)))
		}
	}
}

// Closed waits for the connection's end and is its code; 1006 without a close frame.
func (c *Client) Closed() protocol.CloseCode {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		closed := c.closed
		c.mu.Unlock()
		if closed != nil {
			return protocol.CloseCode(closed.Code)
		}
		select {
		case <-c.news:
		case <-timeout:
			c.t.Fatal("the connection stays open")
		}
	}
}
