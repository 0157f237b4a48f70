package edge

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/internal/panics"
)

// clientConn is a client's TCP connection, beneath TLS if the client uses TLS. After
// setNonblocking, Write never blocks. Bytes that the system does not take at once go
// to the backlog, and a goroutine writes them. The goroutine ends when the backlog is
// empty. Each Write during a backlog makes the backlog longer, so writers call wait
// first.
type clientConn struct {
	*net.TCPConn
	raw    syscall.RawConn // set by setNonblocking, nil before; never changed afterwards
	limits *limits
	place  limit.Place[netip.Addr] // among the connections of its source; held until Close
	among  limit.Place[everybody]  // among all connections; held until Close

	mu      sync.Mutex
	backlog []byte        // guarded by mu
	drained chan struct{} // guarded by mu; nil without a backlog, closed when the backlog is gone
	failed  error         // guarded by mu
}

// Close implements [net.Conn]. Any goroutine may call it.
func (c *clientConn) Close() error {
	if c.limits != nil {
		c.limits.connections.Leave(&c.place)
		c.limits.open.Leave(&c.among)
	}
	return c.TCPConn.Close()
}

// Evict implements [limit.Evictable]: a newer connection needs the place, of the same source or of any.
func (c *clientConn) Evict() {
	c.limits.refused.WithLabelValues("connections").Inc()
	_ = c.TCPConn.Close()
}

// setNonblocking makes Write nonblocking. It must be called before any other goroutine writes.
func (c *clientConn) setNonblocking() error {
	raw, err := c.SyscallConn()
	c.raw = raw
	return err
}

// Write implements [net.Conn]. After setNonblocking, bytes in the backlog count as written.
func (c *clientConn) Write(b []byte) (int, error) {
	if c.raw == nil {
		return c.TCPConn.Write(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return 0, c.failed
	}
	if c.drained != nil {
		c.backlog = append(c.backlog, b...)
		return len(b), nil
	}
	n, err := writeNow(c.raw, b)
	if err != nil || n == len(b) {
		return n, err
	}
	c.backlog, c.drained = bytes.Clone(b[n:]), make(chan struct{})
	go c.drain()
	return len(b), nil
}

// drain writes the backlog. It closes the connection if one write takes longer than
// sendTimeout.
func (c *clientConn) drain() {
	defer panics.Recover(nil, inWriter, func() { _ = c.Close() }, c.fail)
	for {
		c.mu.Lock()
		b := c.backlog
		c.backlog = nil
		if len(b) == 0 || c.failed != nil {
			close(c.drained)
			c.drained = nil
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		_ = c.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, err := c.TCPConn.Write(b)
		if err == nil {
			err = c.SetWriteDeadline(time.Time{})
		}
		if err != nil {
			c.mu.Lock()
			c.failed = err
			c.mu.Unlock()
			_ = c.Close()
		}
	}
}

// fail ends the wait for the backlog after a panic of drain.
func (c *clientConn) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = net.ErrClosed
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

// wait blocks until there is no backlog, or until drain has given up. It returns the
// error that ended the connection.
func (c *clientConn) wait() error {
	c.mu.Lock()
	drained := c.drained
	c.mu.Unlock()
	if drained != nil {
		<-drained
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// waiting reports whether there is a backlog.
func (c *clientConn) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drained != nil
}
