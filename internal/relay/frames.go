package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	channelHeader = 4
	// longestFrame is where pion's own arithmetic begins anew at 0.
	longestFrame = 1<<16 - 1
)

var (
	errFrameShape  = errors.New("neither STUN nor ChannelData")
	errFrameLength = errors.New("frame too long")
)

// frameLength is that of the frame which begins with header: RFC 8489 §6.2.2, and RFC 8656 §12.5 for ChannelData,
// which is padded on a stream.
func frameLength(header [4]byte) (int, error) {
	n := int(binary.BigEndian.Uint16(header[2:]))
	switch {
	case header[0]&0xc0 == 0 && n%4 == 0:
		n += stunHeader
	case header[0]&0xf0 == 0x40:
		n = channelHeader + (n+3)&^3
	default:
		return 0, errFrameShape
	}
	if n > longestFrame {
		return 0, errFrameLength
	}
	return n, nil
}

// readFrame reads the next frame into b and returns its length. One that does not fit into b is read over: then the
// length is 0.
func readFrame(r io.Reader, b []byte) (int, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, err
	}
	n, err := frameLength(header)
	if err != nil {
		return 0, err
	}
	if n > len(b) {
		_, err := io.CopyN(io.Discard, r, int64(n-len(header)))
		return 0, err
	}
	copy(b, header[:])
	_, err = io.ReadFull(r, b[len(header):n])
	return n, err
}

// A stream is a client's TCP connection as pion sees it: a socket that has whole frames from one client.
type stream struct {
	net.Conn
	guard   *guard
	src     netip.AddrPort
	buffer  *bufio.Reader // owned by the reader
	begun   time.Time
	trusted bool // owned by the reader: src had an allocation
}

func newStream(conn net.Conn, s *Server) *stream {
	return &stream{
		Conn:   conn,
		guard:  newGuard(s),
		src:    addrPort(conn.RemoteAddr()),
		buffer: bufio.NewReader(conn),
		begun:  time.Now(),
	}
}

// ReadFrom receives the next message for pion. A client that breaks the framing, or is too slow, is hung up on.
func (c *stream) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.next(p)
	if err != nil {
		c.guard.server.forget(c)
		c.guard.server.readers.Done()
		return 0, nil, err
	}
	return n, c.RemoteAddr(), nil
}

func (c *stream) next(p []byte) (int, error) {
	s := c.guard.server
	for {
		if err := c.await(); err != nil {
			return 0, c.count(err)
		}
		// One octet less than pion has room for: it takes a full buffer for one that overflowed.
		n, err := readFrame(c.buffer, p[:len(p)-1])
		if err != nil {
			return 0, c.count(err)
		}
		if n == 0 {
			s.metrics.refuse(causeLength)
			continue
		}
		switch c.guard.judge(p[:n], c.src) {
		case pass:
			return n, nil
		case answer:
			if response, err := bindingResponse(p[:n], c.src); err == nil {
				_, _ = c.WriteTo(response, nil)
			}
		case flood:
			return 0, errors.New("too many unauthenticated requests")
		case drop:
		}
	}
}

// await returns when a frame begins, and leaves the deadline for its end.
func (c *stream) await() error {
	patience := c.guard.server.patience
	c.trusted = c.trusted || c.guard.known(c.src)
	deadline := c.begun.Add(patience)
	if c.trusted {
		deadline = time.Now().Add(idle)
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.buffer.Peek(1); err != nil || !c.trusted {
		return err
	}
	return c.SetReadDeadline(time.Now().Add(patience))
}

// count notes why the client is hung up on, if that was our doing.
func (c *stream) count(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.guard.server.metrics.refuse(causeTimeout)
	case errors.Is(err, errFrameShape):
		c.guard.server.metrics.refuse(causeShape)
	case errors.Is(err, errFrameLength):
		c.guard.server.metrics.refuse(causeLength)
	}
	return err
}

// WriteTo sends to the one client there is. One that does not take it is hung up on, for part of a frame may have
// been sent.
func (c *stream) WriteTo(p []byte, _ net.Addr) (int, error) {
	err := c.SetWriteDeadline(time.Now().Add(c.guard.server.patience))
	if err != nil {
		return 0, err
	}
	n, err := c.Write(p)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}
