package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"
	"golang.org/x/sync/errgroup"
)

// dialect is how clients of one server speak. A client is used by one goroutine beside its reader.
type dialect interface {
	// path is where a client of a name connects.
	path(name string) string
	// greet says who the client is, and waits until it is let in.
	greet(c *client) error
	// join puts two clients in a call.
	join(caller, callee *client) error
	// candidate is the next frame of a client with a candidate for the other party.
	candidate(c *client) []byte
	// take looks at a frame of the server, and answers pings. Called by the
	// client's reader.
	take(c *client, frame []byte) kind
}

// kind is what a frame of the server is.
type kind int

const (
	other kind = iota
	ping
	relayedCandidate
)

// client is one connection.
type client struct {
	gws.BuiltinEventHandler
	dialect
	socket   *gws.Conn
	name     string
	frames   chan string   // what is neither ping nor candidate; without room they are dropped
	relayed  *atomic.Int64 // counts candidates, of all clients
	failures *atomic.Int64 // counts closed connections and refusals
	hops     *hops

	candidates       atomic.Int64 // that have arrived
	id, call, target string
	seq              int
	received         int // the server's last number; owned by the reader
}

func (c *client) OnMessage(_ *gws.Conn, message *gws.Message) {
	frame := message.Bytes()
	switch c.take(c, frame) {
	case ping:
	case relayedCandidate:
		c.hops.arrived(frame)
		c.candidates.Add(1)
		c.relayed.Add(1)
	case other:
		select {
		case c.frames <- string(frame):
		default:
		}
	}
	_ = message.Close()
}

func (c *client) OnClose(*gws.Conn, error) { c.failures.Add(1) }

func (c *client) send(frame []byte) error { return c.socket.WriteMessage(gws.OpcodeText, frame) }

// await is the next frame that wanted likes.
func (c *client) await(what string, wanted func(frame string) bool) error {
	timeout := time.After(patience)
	for {
		select {
		case frame := <-c.frames:
			if wanted(frame) {
				return nil
			}
		case <-timeout:
			return fmt.Errorf("%s waits for %s in vain", c.name, what)
		}
	}
}

// crowd is the clients of one measurement.
type crowd struct {
	clients           []*client
	relayed, failures atomic.Int64
	hops              hops
}

// sources are the addresses that clients come from, so that neither ports nor the limits for one address run out.
const sources = 128

// grow connects clients until there are n.
func (w *crowd) grow(ctx context.Context, d dialect, addr string, n int, tell func(string)) error {
	have := len(w.clients)
	w.clients = append(w.clients, make([]*client, n-have)...)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	var shown sync.Mutex
	last := time.Now()
	for i := have; i < n; i++ {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c := &client{
				dialect: d, name: fmt.Sprintf("guest %05d", i),
				frames: make(chan string, 4), relayed: &w.relayed, failures: &w.failures, hops: &w.hops,
			}
			if err := c.connect(addr, net.IPv4(127, 0, 0, byte(2+i%sources))); err != nil {
				return err
			}
			w.clients[i] = c
			if shown.TryLock() {
				if time.Since(last) > 2*time.Second {
					last = time.Now()
					tell(fmt.Sprintf("%d of %d connections", i+1, n))
				}
				shown.Unlock()
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *client) connect(addr string, from net.IP) error {
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(c, &gws.ClientOption{
		Addr:           "ws://" + addr + c.path(c.name),
		ReadBufferSize: 1 << 10,
		NewDialer: func() (gws.Dialer, error) {
			return &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: from}}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.socket = socket
	go socket.ReadLoop() // until leave
	return c.greet(c)
}

// leave closes all connections.
func (w *crowd) leave() {
	for _, c := range w.clients {
		if c != nil && c.socket != nil {
			_ = c.socket.NetConn().Close()
		}
	}
}
