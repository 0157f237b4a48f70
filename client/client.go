// Package client connects Go programs to a Visavis server: bots, monitors, load generators and tests.
//
// [Dial] opens the signaling connection, says hello and returns when the server has welcomed the client.
// [Client.Send] sends a message of package protocol, [Client.Receive] and [Await] return those of the server.
// [Client.Close] leaves for good. PROTOCOL.md tells which message means what, in which order they go, and which
// of them the server refuses.
//
// # What the client does by itself
//
// A client is one session of one user (PROTOCOL.md, section 2). It numbers what it sends, answers pings, and keeps each
// message until the server has acknowledged it. When the connection is lost, it connects again and resumes the session:
// both sides then send what the other has not received, in order and each message once. If the server no longer has
// the session, [Client.Receive] returns a [protocol.Welcome] that is not Resumed. The client is then in a new session, and
// what the server had not received is dropped. A program that was in a call shows its ticket (section 4, rejoin). The
// user is the same, unless the server has forgotten the token of a guest: then the client comes in by name as another
// user (section 10).
//
// The client does not touch media. It passes on descriptions and candidates as they are.
//
// # Errors
//
// The server's refusals are [*protocol.Error] with a listed code. Dial returns the refusal of a hello. The refusal of a
// later message is a message itself, with the Ref or Call of what it refuses. A connection that has ended is a
// [*CloseError] with the close code. Use [errors.As] for both: a refused hello is both.
//
// Durations in messages are milliseconds, as their names say (RingMs); [protocol.Duration] converts them.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/protocol"
)

// Config says which server a [Client] connects to, and as whom.
type Config struct {
	// URL is the address of the server as people open it, such as https://call.example.org.
	URL string
	// Hello says who comes, by Name or Token, and what they prefer. With both, a guest whose token is unknown comes in by
	// name. Dial sets Version where it is 0. A Hello with Resume and Received takes up a session of an earlier process.
	Hello protocol.Hello
	// Handle takes each message as it arrives, in order, instead of [Client.Receive]. The goroutine that reads
	// the connection calls it, so it must not wait for anything. It may call Send but not Close. May be nil.
	Handle func(protocol.Message)
	// OneConnection ends the client with its first connection, instead of resuming the session.
	OneConnection bool
	// TLS is used for https. May be nil.
	TLS *tls.Config
	// Dial opens the connections to the server. A [net.Dialer] does so by default.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ErrClosed is the error of a client that was closed by [Client.Close].
var ErrClosed = errors.New("client: closed")

const (
	// connectTimeout bounds the time from the beginning of a connection to its welcome. The server gives a hello as long.
	connectTimeout = 10 * time.Second
	// leaveTimeout is how long Close waits for the server's answer.
	leaveTimeout = 2 * time.Second
	// maxWaiting is how many messages wait for Receive before the client stops reading.
	maxWaiting = 256
)

// Client is a session with a server. Its methods may be called by any goroutine.
type Client struct {
	cfg          Config
	address, url string // host and port, and the address of the WebSocket

	inbox   chan protocol.Message
	greeted chan struct{} // closed by the first welcome
	closing chan struct{} // closed by Close
	close   sync.Once
	life    context.Context //nolint:containedctx // of the client's one goroutine; ends at the latest with it
	stop    context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended
	err     error         // why; set before done is closed

	welcome atomic.Pointer[protocol.Welcome] // the last
	current atomic.Pointer[connection]       // the one that has been welcomed; nil without

	mu      sync.Mutex // guards what is sent, and the order in which it is written
	hello   protocol.Hello
	session session

	// Owned by the goroutine.
	received   uint64 // the server's last number
	presenceAt string
	returnIn   *protocol.Restarting
}

// Dial connects to a server, says hello and waits for the welcome, ten seconds at most. The context bounds only that: it
// may end when Dial has returned. Dial does not try again after an error. The error is a [*protocol.Error] where the server refused the hello, and
// the context's where that ended. A client that Dial returned must be closed.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c := &Client{
		cfg: cfg, hello: cfg.Hello, received: cfg.Hello.Received,
		inbox: make(chan protocol.Message), greeted: make(chan struct{}),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	if cfg.Handle == nil {
		c.inbox = make(chan protocol.Message, maxWaiting)
	}
	if err := c.setURL(cfg.URL); err != nil {
		return nil, err
	}
	if c.cfg.Dial == nil {
		c.cfg.Dial = new(net.Dialer).DialContext
	}
	if c.hello.Version == 0 {
		c.hello.Version = protocol.Version
	}
	c.life, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	go c.run(ctx)
	select {
	case <-c.greeted:
		return c, nil
	case <-c.done:
		return nil, c.err
	}
}

// setURL finds out where to connect.
func (c *Client) setURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("client: server URL: %w", err)
	}
	port := "80"
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme, port = "wss", "443"
	default:
		return fmt.Errorf("client: server URL %q: must begin with http:// or https://", text)
	}
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("client: server URL %q: must be a scheme and a host, with a port if need be", text)
	}
	if p := u.Port(); p != "" {
		port = p
	}
	c.address = net.JoinHostPort(u.Hostname(), port)
	u.Path = "/v1/signal"
	c.url = u.String()
	return nil
}

// Welcome is the server's last welcome: the session, who the user is, and the timings of calls. It must not be changed.
// The Token in it lets a guest come back as the same user.
func (c *Client) Welcome() *protocol.Welcome { return c.welcome.Load() }

// Receive returns the server's next message: a pointer to a type of package protocol. It returns no ping and
// no restarting, which the client acts on itself. Each [protocol.Welcome] after the first is a message too.
//
// If the program does not receive, up to 256 messages wait; then the client stops reading and answering pings until the
// program receives again. The server closes such a connection after a minute, and the client resumes the session.
//
// The error is the context's, or, after the last message, what [Client.Err] is.
func (c *Client) Receive(ctx context.Context) (protocol.Message, error) {
	select {
	case m := <-c.inbox:
		return m, nil
	default:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
	}
	select {
	case m := <-c.inbox:
		return m, nil
	default:
		return nil, c.err
	}
}

// Await receives until a message of type M comes, and drops those of other types. If an error message of the server
// comes first, Await returns it as its error.
func Await[M protocol.Message](ctx context.Context, c *Client) (M, error) {
	for {
		m, err := c.Receive(ctx)
		if wanted, ok := m.(M); ok {
			return wanted, nil
		}
		if refused, ok := m.(*protocol.Error); ok {
			err = refused
		}
		if err != nil {
			var none M
			return none, err
		}
	}
}

// Done is closed when the client has ended: by Close, or because the server said that it must not come back.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil until Done is closed, and then says why the client has ended: [ErrClosed], or a [*CloseError] of its last
// connection.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close leaves for good: the session ends, and with it a call that it is in. Close waits until the server has confirmed
// that, two seconds at most, and until the goroutine of the client has ended. A session whose connection is lost at that
// moment ends when the server has waited for it in vain.
func (c *Client) Close() error {
	c.close.Do(func() {
		close(c.closing)
		conn := c.current.Load()
		if conn == nil {
			c.stop()
			return
		}
		defer time.AfterFunc(leaveTimeout, c.stop).Stop()
		conn.leave()
		<-c.done
	})
	<-c.done
	return nil
}

// deliver hands a message to the program.
func (c *Client) deliver(m protocol.Message) {
	if c.cfg.Handle != nil {
		c.cfg.Handle(m)
		return
	}
	select {
	case c.inbox <- m:
	case <-c.closing:
	}
}
