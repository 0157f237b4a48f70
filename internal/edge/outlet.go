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

// outlet is a client's TCP connection, beneath TLS where there is any. Once it is
// prompt, Write never waits: what the client does not take at once stays in the
// backlog, and a goroutine that lives as long as there is one writes it. Who calls
// Write while there is a backlog makes it longer, so writers call wait first.
type outlet struct {
	*net.TCPConn
	raw    syscall.RawConn // nil until prompt; then never changed
	limits *limits
	place  limit.Place[netip.Addr] // among the connections of its source; held until Close
	among  limit.Place[everybody]  // among all connections; held until Close

	mu      sync.Mutex
	backlog []byte        // guarded by mu
	drained chan struct{} // guarded by mu; nil while nothing waits, closed when nothing does any more
	failed  error         // guarded by mu
}

// Close implements [net.Conn]. Any goroutine may call it.
func (o *outlet) Close() error {
	if o.limits != nil {
		o.limits.connections.Leave(&o.place)
		o.limits.open.Leave(&o.among)
	}
	return o.TCPConn.Close()
}

// Evict implements [limit.Evictable]: a newer connection, of the same source or any, needs the place.
func (o *outlet) Evict() {
	o.limits.refused.WithLabelValues("connections").Inc()
	_ = o.TCPConn.Close()
}

// makePrompt changes how Write works: before anyone else writes.
func (o *outlet) makePrompt() error {
	raw, err := o.SyscallConn()
	o.raw = raw
	return err
}

func (o *outlet) Write(b []byte) (int, error) {
	if o.raw == nil {
		return o.TCPConn.Write(b)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed != nil {
		return 0, o.failed
	}
	if o.drained != nil {
		o.backlog = append(o.backlog, b...)
		return len(b), nil
	}
	n, err := writeNow(o.raw, b)
	if err != nil || n == len(b) {
		return n, err
	}
	o.backlog, o.drained = bytes.Clone(b[n:]), make(chan struct{})
	go o.drain()
	return len(b), nil
}

// drain writes the backlog. A client that takes none of it for sendTimeout loses
// the connection.
func (o *outlet) drain() {
	defer panics.Recover(nil, inWriter, func() { _ = o.Close() }, o.fail)
	for {
		o.mu.Lock()
		b := o.backlog
		o.backlog = nil
		if len(b) == 0 || o.failed != nil {
			close(o.drained)
			o.drained = nil
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		_ = o.SetWriteDeadline(time.Now().Add(sendTimeout))
		_, err := o.TCPConn.Write(b)
		if err == nil {
			err = o.SetWriteDeadline(time.Time{})
		}
		if err != nil {
			o.mu.Lock()
			o.failed = err
			o.mu.Unlock()
			_ = o.Close()
		}
	}
}

// fail ends the wait for a backlog that drain gave up.
func (o *outlet) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = net.ErrClosed
	if o.drained != nil {
		close(o.drained)
		o.drained = nil
	}
}

// wait waits until there is no backlog, for at most as long as drain does.
func (o *outlet) wait() error {
	o.mu.Lock()
	drained := o.drained
	o.mu.Unlock()
	if drained != nil {
		<-drained
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// waiting reports whether there is a backlog.
func (o *outlet) waiting() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.drained != nil
}
