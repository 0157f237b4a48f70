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

	public "github.com/visavis/visavis/client"
	"github.com/visavis/visavis/protocol"
)

// dialect is how clients of one server speak. A client is used by one goroutine beside its reader.
type dialect interface {
	// enter connects a client and waits until it is let in.
	enter(ctx context.Context, c *client, addr string, dialer *net.Dialer) error
	// join puts two clients in a call.
	join(caller, callee *client) error
	// sendCandidate sends a candidate for the other party.
	sendCandidate(c *client) error
	// lost reports whether the connection has ended.
	lost(c *client) bool
}

// client is one connection.
type client struct {
	dialect
	name     string
	conn     net.Conn
	relayed  *atomic.Int64 // counts candidates, of all clients
	refusals *atomic.Int64 // counts what the server refused, of all clients
	hops     *hops

	candidates atomic.Int64 // that have arrived

	// Of our server: its messages but candidates (without room they are dropped), and the call.
	session  *public.Client
	messages chan protocol.Message
	call     protocol.CallID

	// Of the peer.
	socket    *gws.Conn
	connected chan struct{}
	closed    atomic.Bool
	target    string
}

// arrived counts a candidate.
func (c *client) arrived(candidate []byte) {
	c.hops.arrived(candidate)
	c.candidates.Add(1)
	c.relayed.Add(1)
}

// await is the next message of a type.
func await[M protocol.Message](c *client) (M, error) {
	timeout := time.After(patience)
	for {
		select {
		case m := <-c.messages:
			if wanted, ok := m.(M); ok {
				return wanted, nil
			}
		case <-timeout:
			var none M
			return none, fmt.Errorf("%s waits for %T in vain", c.name, none)
		}
	}
}

// crowd is the clients of one measurement.
type crowd struct {
	clients           []*client
	relayed, refusals atomic.Int64
	hops              hops
}

// failures counts refusals and lost connections.
func (w *crowd) failures() int64 {
	n := w.refusals.Load()
	for _, c := range w.clients {
		if c.lost(c) {
			n++
		}
	}
	return n
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
				dialect: d, name: fmt.Sprintf("guest %05d", i), relayed: &w.relayed, refusals: &w.refusals, hops: &w.hops,
			}
			dialer := &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%sources))}}
			if err := c.enter(ctx, c, addr, dialer); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
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

// leave closes all connections.
func (w *crowd) leave() {
	for _, c := range w.clients {
		if c != nil && c.conn != nil {
			_ = c.conn.Close()
		}
	}
}
