package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/protocol"
)

// CloseError says how a connection ended.
type CloseError struct {
	// Code is the server's close code. It is [CloseCut] where the connection broke without one.
	Code   protocol.CloseCode
	Reason string
	// Err is the server's refusal of the hello, if that ended the connection, or what broke it. May be nil.
	Err error
}

// CloseCut is the code of a connection that ended without a close frame (RFC 6455, section 7.4.1).
const CloseCut protocol.CloseCode = 1006

// Error implements the error interface.
func (e *CloseError) Error() string {
	text := fmt.Sprintf("client: the connection was closed (%d %s)", e.Code, e.Reason)
	if e.Code == CloseCut {
		text = "client: the connection was lost"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns Err.
func (e *CloseError) Unwrap() error { return e.Err }

// comesBack reports whether the client may connect again after an error.
func comesBack(err error) bool {
	const firstFinal = 4500
	if closed := (*CloseError)(nil); errors.As(err, &closed) && closed.Code >= firstFinal {
		return false
	}
	if refused := (*protocol.Error)(nil); errors.As(err, &refused) {
		switch refused.Code {
		case protocol.CodeRestarting, protocol.CodeFull, protocol.CodeRateLimited, protocol.CodeUnavailable, protocol.CodeInternal:
			return true
		}
		return false
	}
	return true
}

// comeByName gives up a token that the server does not know, where the guest has a name to come in by (PROTOCOL.md, section 10).
func (c *Client) comeByName(err error) bool {
	refused := (*protocol.Error)(nil)
	if !errors.As(err, &refused) || refused.Code != protocol.CodeUnauthorized || c.cfg.OneConnection {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hello.Token == "" || c.hello.Name == "" {
		return false
	}
	c.hello.Token, c.hello.Resume = "", ""
	return true
}

// A wait before a connection is a random part of a span that doubles from backOffBase to backOffMax.
const (
	backOffBase = 500 * time.Millisecond
	backOffMax  = 10 * time.Second
)

// backOff is how long to wait before the next connection.
func (c *Client) backOff(tries int) time.Duration {
	shortest, longest := time.Duration(0), min(backOffMax, backOffBase<<min(tries, 10))
	if r := c.returnIn; r != nil {
		shortest, longest = protocol.Duration(r.MinMs), max(protocol.Duration(r.MaxMs), protocol.Duration(r.MinMs))
		c.returnIn = nil
	}
	return shortest + rand.N(longest-shortest+1)
}

// run has one connection after the other until the client ends. ctx bounds the first one's beginning.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	defer c.stop()
	for tries := 0; ; tries++ {
		welcomed, err := c.connect(ctx)
		select {
		case <-c.closing:
			c.err = ErrClosed
			return
		default:
		}
		if c.comeByName(err) {
			continue
		}
		if c.Welcome() == nil || c.cfg.OneConnection || !comesBack(err) {
			c.err = err
			return
		}
		if welcomed {
			tries = 0
		}
		ctx = c.life
		select {
		case <-time.After(c.backOff(tries)):
		case <-c.closing:
			c.err = ErrClosed
			return
		}
	}
}

// connection is one WebSocket of a client. It is gws' event handler.
type connection struct {
	gws.BuiltinEventHandler
	client    *Client
	transport *transport
	socket    *gws.Conn
	began     func() bool   // lets the connection outlive the time that it had to begin; false if that was over
	shows     protocol.Show // as its hello said

	// Owned by the reader.
	welcomed bool
	refusal  error
	closed   *CloseError
}

// connect opens a connection, says hello, and reads until the connection ends. The error says why it did.
func (c *Client) connect(ctx context.Context) (welcomed bool, err error) {
	begin, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn := &connection{client: c}
	raw, err := c.dial(begin)
	if err != nil {
		return false, err
	}
	defer func() { _ = raw.Close() }()
	conn.transport = &transport{Conn: raw}
	conn.began = context.AfterFunc(begin, func() { _ = raw.Close() })
	defer context.AfterFunc(c.life, func() { _ = raw.Close() })()
	//nolint:bodyclose // of a WebSocket; refusedUpgrade closes that of a refusal
	socket, resp, err := gws.NewClientFromConn(conn, &gws.ClientOption{
		Addr: c.url, ReadBufferSize: 1 << 10,
		HandshakeTimeout: 2 * connectTimeout, // begin ends before
	}, conn.transport)
	switch {
	case begin.Err() != nil:
		return false, fmt.Errorf("client: connect: %w", begin.Err())
	case err != nil:
		return false, refusedUpgrade(resp, err)
	}
	conn.socket = socket
	hello := c.nextHello()
	conn.shows = protocol.Show{Device: hello.Device, Visible: hello.Visible}
	conn.write(protocol.Encode(hello))
	socket.ReadLoop()
	c.current.Store(nil)
	if !conn.welcomed && begin.Err() != nil {
		return false, fmt.Errorf("client: connect: no welcome: %w", begin.Err())
	}
	return conn.welcomed, conn.closed
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.cfg.Dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, fmt.Errorf("client: connect: %w", err)
	}
	if !strings.HasPrefix(c.url, "wss:") {
		return conn, nil
	}
	cfg := c.cfg.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(c.address)
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("client: connect to %s: %w", c.address, err)
	}
	return secure, nil
}

// refusedUpgrade is the error of a server that opens no WebSocket: its own, as far as it could be read.
func refusedUpgrade(resp *http.Response, err error) error {
	if resp == nil {
		return fmt.Errorf("client: connect: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var listed protocol.Error
	if json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&listed) == nil && listed.Code != "" {
		return fmt.Errorf("client: connect: %w", &listed)
	}
	return fmt.Errorf("client: connect: the server opens no WebSocket (HTTP status %s)", resp.Status)
}

// write writes a frame. If that fails, the reader ends.
func (conn *connection) write(frame []byte) { _ = conn.socket.WriteMessage(gws.OpcodeText, frame) }

// leave says that the client leaves for good. The reader ends when the server has confirmed.
func (conn *connection) leave() {
	conn.transport.leaving.Store(true)
	_ = conn.socket.WriteClose(1000, nil)
}

// OnPing implements [gws.Event].
func (conn *connection) OnPing(socket *gws.Conn, payload []byte) { _ = socket.WritePong(payload) }

// OnClose implements [gws.Event].
func (conn *connection) OnClose(_ *gws.Conn, err error) {
	conn.closed = &CloseError{Code: CloseCut, Err: err}
	if frame := (*gws.CloseError)(nil); errors.As(err, &frame) {
		conn.closed = &CloseError{Code: protocol.CloseCode(frame.Code), Reason: string(frame.Reason)}
	}
	if conn.refusal != nil {
		conn.closed.Err = conn.refusal
	}
}

// OnMessage implements [gws.Event].
func (conn *connection) OnMessage(_ *gws.Conn, message *gws.Message) {
	m, env, err := protocol.Decode(message.Bytes())
	_ = message.Close()
	switch {
	case !conn.welcomed:
		conn.greeted(m, err)
	case env.Seq == 0 || conn.client.fresh(env.Seq):
		conn.take(m, err)
	}
}

// fresh takes note of a message's number. It reports false for one that was received before.
func (c *Client) fresh(seq uint64) bool {
	if seq <= c.received {
		return false
	}
	c.received = seq
	return true
}

// greeted takes the answer to hello.
func (conn *connection) greeted(m protocol.Message, err error) {
	c := conn.client
	switch m := m.(type) {
	case *protocol.Welcome:
		if !conn.began() {
			return
		}
		first := c.Welcome() == nil
		conn.transport.silence = 2 * protocol.Duration(m.Timings.PingMs)
		if !c.begin(conn, m) {
			_ = conn.transport.Close()
			return
		}
		conn.welcomed = true
		if first {
			close(c.greeted)
		} else {
			c.deliver(m)
		}
	case *protocol.Error:
		conn.refusal = m
	default:
		conn.refuse(fmt.Errorf("the server answers hello with neither welcome nor error: %w", err))
	}
}

// take takes a message of the session.
func (conn *connection) take(m protocol.Message, err error) {
	c := conn.client
	if refused := (*protocol.Error)(nil); errors.As(err, &refused) && refused.Code == protocol.CodeUnknownType {
		return // of a newer server
	}
	if err != nil {
		conn.refuse(fmt.Errorf("the server sent what cannot be read: %w", err))
		return
	}
	switch m := m.(type) {
	case *protocol.Welcome:
	case *protocol.Ping:
		c.acknowledged(m.Ack)
		conn.write(protocol.Encode(&protocol.Pong{Ack: c.received}))
	case *protocol.Restarting:
		c.returnIn = m
	case *protocol.PresenceChange:
		c.presenceAt = m.At
		c.deliver(m)
	default:
		c.deliver(m)
	}
}

// refuse gives the connection up for what the server sent.
func (conn *connection) refuse(err error) {
	conn.refusal = err
	_ = conn.transport.Conn.Close()
}

// sendTimeout is how long the server may not read.
const sendTimeout = 10 * time.Second

// transport is the stream under a WebSocket. It breaks at the first failure, so that gws cannot
// tell the server with a close frame that the client has left for good.
type transport struct {
	net.Conn
	// silence is how long the server may say nothing; 0 is for ever. Owned by the reader.
	silence time.Duration
	// leaving says that the client has left. Close then leaves the stream open for the server's answer.
	leaving atomic.Bool
}

// Read implements [net.Conn].
func (t *transport) Read(b []byte) (int, error) {
	if t.silence > 0 {
		_ = t.SetReadDeadline(time.Now().Add(t.silence))
	}
	n, err := t.Conn.Read(b)
	if err != nil {
		_ = t.Conn.Close()
	}
	return n, err
}

// Write implements [net.Conn].
func (t *transport) Write(b []byte) (int, error) {
	_ = t.SetWriteDeadline(time.Now().Add(sendTimeout))
	n, err := t.Conn.Write(b)
	if err != nil {
		_ = t.Conn.Close()
	}
	return n, err
}

// Close implements [net.Conn].
func (t *transport) Close() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok && t.leaving.Load() {
		return half.CloseWrite()
	}
	return t.Conn.Close()
}
