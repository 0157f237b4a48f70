package socketio

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

const (
	// sendTimeout is how long a client may read nothing of what waits for it.
	sendTimeout = 10 * time.Second
	// The hub waits while as many packets wait for a transport as slowPackets. A client for
	// which more than maxPackets wait is dropped.
	slowPackets = 64
	maxPackets  = 512
	// The same in bytes. The most that an honest client is sent at once is a description and
	// a hundred candidates, some 170 KiB; the hub keeps as much as maxBytes for a session. The
	// list of users does not count: its client did not choose how many users there are, and
	// only the last list waits.
	slowBytes = 128 << 10
	maxBytes  = 512 << 10
)

var errSlow = errors.New("the client does not read")

// put queues packets and does not block.
func (c *connection) put(packets ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.addLocked(packets)
	if len(c.out)-c.returned > maxPackets || c.bytes-c.returnedBytes > maxBytes {
		go c.server.contained(inConnection, func() { c.end(protocol.CloseSlow, errSlow.Error()) })()
	}
	signal(c.grown)
}

// putBack queues packets that an earlier connection of the client did not take. They do not
// count as packets that the client does not read on this connection.
func (c *connection) putBack(packets []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		packetsBefore, bytesBefore := len(c.out), c.bytes
		c.addLocked(packets)
		c.returned += max(0, len(c.out)-packetsBefore)
		c.returnedBytes += c.bytes - bytesBefore
		signal(c.grown)
	}
}

func (c *connection) addLocked(packets []string) {
	for _, p := range packets {
		if strings.HasPrefix(p, usersPacket) { // it has all users, and an older list is void
			c.out = slices.DeleteFunc(c.out, func(q string) bool { return strings.HasPrefix(q, usersPacket) })
		} else {
			c.bytes += len(p)
		}
		c.out = append(c.out, p)
	}
}

// emptyLocked takes all packets that wait.
func (c *connection) emptyLocked() []string {
	out := c.out
	c.out, c.bytes, c.returned, c.returnedBytes = nil, 0, 0, 0
	return out
}

// waitForRoom blocks while the client is behind with its reading, for sendTimeout at most.
func (c *connection) waitForRoom() error {
	timeout := time.NewTimer(sendTimeout)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		full := len(c.out) >= slowPackets || c.bytes >= slowBytes
		c.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-c.taken:
		case <-c.done:
			return errSlow
		case <-timeout.C:
			return errSlow
		}
	}
}

// take waits for packets and takes all of them. It returns none if the connection has ended
// or gone was closed. With poll the packets are for a request. A request gets none any more
// once a WebSocket is about to take over.
func (c *connection) take(poll bool, gone <-chan struct{}) []string {
	for {
		c.mu.Lock()
		packets := c.out
		switch {
		case poll && (c.socket != nil || c.probeWorks && len(packets) == 0):
			c.mu.Unlock()
			return []string{engineNoop}
		case c.closed && poll: // these are the last packets
			packets = append(packets, engineClose)
		}
		c.emptyLocked()
		closed := c.closed
		c.mu.Unlock()
		if len(packets) > 0 || closed {
			signal(c.taken)
			return packets
		}
		select {
		case <-c.grown:
		case <-c.done:
		case <-gone:
			return nil
		}
	}
}

// messages returns the packets that are not Engine.IO's own.
func messages(packets []string) []string {
	return slices.DeleteFunc(packets, func(p string) bool { return !strings.HasPrefix(p, engineMessage) })
}

// signal puts an element into a channel that has room for one, unless it is full.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
