package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/internal/relay/feed"
	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	// patience is how long a TCP client may take to shake hands, to have an allocation, to finish a frame, to take what
	// it is sent.
	patience = 10 * time.Second
	// idle is how long one with an allocation may say nothing. Allocations are refreshed each 10 minutes.
	idle = 15 * time.Minute

	// streamBuffer bounds the frames that a client sends; longer ones, which UDP would have to break up, are read over.
	streamBuffer = 2048
	// streamQueue is what waits for a client to read on, beside what the system holds: a tenth of a second of the most
	// that a holder may relay. Media that does not fit is late, and dropped.
	streamQueue = 64 << 10
	// longestQueue bounds even what is not dropped: who never reads its answers is hung up on.
	longestQueue = 2 * streamQueue
	// idleQueue is what a client's buffers may keep when there is nothing to write.
	idleQueue = 8 << 10
	// systemQueue keeps the system from holding seconds of media for a slow client.
	systemQueue = 64 << 10
)

// A stream is a client's TCP or TLS connection, or a server's that tells of calls (feeds.go).
type stream struct {
	server     *Server
	conn       net.Conn
	socket     net.Conn // below TLS, whose own Close would wait for a writer
	from       source
	begun      time.Time
	allocation atomic.Pointer[allocation] // written by the control plane
	buffer     *bufio.Reader              // owned by serve
	asked      bucket                     // bounds its requests
	places

	mu      sync.Mutex
	queue   []byte // guarded by mu: frames to write
	spare   []byte // owned by the writer, if there is one
	writing bool   // guarded by mu: there is a writer, while there is something to write
	closed  bool   // guarded by mu
}

// serve reads frames until the client goes, breaks the framing, is too slow, or ctx is done; and then hangs up.
func (c *stream) serve(ctx context.Context) {
	defer panics.Recover(c.server.log, inStream, c.hangUp)
	c.server.metrics.connections.Add(1)
	defer c.server.forget(c)
	stop := context.AfterFunc(ctx, c.hangUp)
	defer stop()
	if err := c.shakeHands(ctx); err != nil {
		c.server.metrics.drops.count(refuseHandshake)
		return
	}
	c.buffer = bufio.NewReaderSize(c.conn, streamBuffer)
	if c.opensFeed() {
		c.count(c.heed())
		return
	}
	r := &receiver{server: c.server}
	frame := make([]byte, streamBuffer)
	for {
		n, err := c.next(frame)
		switch {
		case err != nil:
			c.count(err)
			return
		case n == 0:
			c.server.metrics.drops.count(dropLength)
		case r.receive(frame[:n], c.from, c):
			return // it would wait for an answer that never comes
		}
	}
}

func (c *stream) shakeHands(ctx context.Context) error {
	conn, ok := c.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.server.patience)
	defer cancel()
	return conn.HandshakeContext(ctx)
}

func (c *stream) next(frame []byte) (int, error) {
	if header, err := c.buffer.Peek(min(wire.ChannelHeaderSize, c.buffer.Buffered())); err == nil && len(header) == wire.ChannelHeaderSize {
		if n, err := wire.FrameLength([wire.ChannelHeaderSize]byte(header)); err == nil && n <= c.buffer.Buffered() {
			return wire.ReadFrame(c.buffer, frame) // there is nothing to wait for
		}
	}
	deadline := c.begun.Add(c.server.patience)
	if c.allocation.Load() != nil {
		deadline = time.Now().Add(idle)
		c.begun = time.Now()
	}
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	if _, err := c.buffer.Peek(1); err != nil {
		return 0, err
	}
	if c.allocation.Load() != nil {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.server.patience)); err != nil {
			return 0, err
		}
	}
	return wire.ReadFrame(c.buffer, frame)
}

// count notes why the client is hung up on, if that was our doing.
func (c *stream) count(err error) {
	drops := &c.server.metrics.drops
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		drops.count(refuseTimeout)
	case errors.Is(err, wire.ErrFrameShape):
		drops.count(dropShape)
	case errors.Is(err, wire.ErrFrameLength):
		drops.count(dropLength)
	case errors.Is(err, feed.ErrNoFeed), errors.Is(err, feed.ErrSecret), errors.Is(err, feed.ErrFrame), errors.Is(err, errManyFeeds):
		drops.count(refuseFeed)
	}
}

// write queues a frame, padded as streams want it (RFC 8656 §12.5), and returns at once. Media is dropped when the
// queue is full, answers are kept.
func (c *stream) write(header, payload []byte, kept bool) {
	n := len(header) + len(payload)
	padding := -n & 3
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := len(c.queue) + n + padding
	switch {
	case c.closed:
		if !kept {
			c.server.metrics.drops.count(dropGone)
		}
		return
	case !kept && waiting > streamQueue:
		c.server.metrics.drops.count(dropLate)
		return
	case waiting > longestQueue:
		c.server.metrics.drops.count(dropLate)
		c.closed = true
		_ = c.socket.Close()
		return
	}
	c.queue = append(append(append(c.queue, header...), payload...), "\x00\x00\x00"[:padding]...)
	if !c.writing {
		c.writing = true
		c.server.streaming.Add(1)
		go c.flush()
	}
}

// flush writes until there is nothing left. A client that does not take it is hung up on, for part of a frame may have
// been sent.
func (c *stream) flush() {
	defer c.server.streaming.Done()
	defer panics.Recover(c.server.log, inStream, c.hangUp)
	for {
		c.mu.Lock()
		if len(c.queue) == 0 || c.closed {
			c.writing = false
			if cap(c.queue) > idleQueue || c.closed {
				c.queue = nil
			}
			if cap(c.spare) > idleQueue || c.closed {
				c.spare = nil
			}
			c.mu.Unlock()
			return
		}
		c.queue, c.spare = c.spare[:0], c.queue
		c.mu.Unlock()
		err := c.conn.SetWriteDeadline(time.Now().Add(c.server.patience))
		if err == nil {
			_, err = c.conn.Write(c.spare)
		}
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.server.metrics.drops.count(refuseTimeout)
			}
			c.hangUp()
		}
	}
}

// hangUp makes serve return.
func (c *stream) hangUp() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	_ = c.socket.Close()
}
