package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

// frame is a client's frame with a masking key of zeros. length64 is written as it is.
func frame(first byte, payload string) []byte {
	b := []byte{first, 0x80 | byte(len(payload))}
	switch {
	case len(payload) > 1<<16-1:
		b = binary.BigEndian.AppendUint64([]byte{first, 0x80 | length64}, uint64(len(payload)))
	case len(payload) > maxControl:
		b = binary.BigEndian.AppendUint16([]byte{first, 0x80 | length16}, uint16(len(payload)))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// header is a frame header with a length of 64 bits, without masking key and payload.
func header(first byte, length uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{first, 0x80 | length64}, length)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// violations are what a client may not send, and how the connection is closed.
var violations = []struct {
	name  string
	sent  []byte
	wrong *violation
}{
	{"a length of -1", header(0x81, 1<<64-1), negativeLength},
	{"the smallest negative length", header(0x82, 1<<63), negativeLength},
	{"a negative length within fragments", join(frame(0x01, "a"), header(0x80, 1<<64-8)), negativeLength},
	{"the largest positive length", header(0x81, 1<<63-1), tooLarge},
	{"a frame over the limit", header(0x81, protocol.MaxFrame+1), tooLarge},
	{"fragments over the limit", join(frame(0x01, strings.Repeat("a", 60000)), frame(0x00, strings.Repeat("a", 60000)), frame(0x80, strings.Repeat("a", 60000))), tooLarge},
	{"64 bits for a small length", header(0x81, 1<<16-1), longLength},
	{"64 bits for nothing", header(0x81, 0), longLength},
	{"16 bits for a small length", []byte{0x81, 0xfe, 0, 125}, longLength},
	{"RSV1, as with compression", frame(0xc1, "a"), reservedBits},
	{"RSV2", frame(0xa1, "a"), reservedBits},
	{"RSV3 of a ping", frame(0x99, "a"), reservedBits},
	{"opcode 3", frame(0x83, "a"), reservedOpcode},
	{"opcode 7", frame(0x87, "a"), reservedOpcode},
	{"opcode 11", frame(0x8b, ""), reservedOpcode},
	{"opcode 15", frame(0x8f, ""), reservedOpcode},
	{"no mask", []byte{0x81, 1, 'a'}, unmasked},
	{"a ping without mask", []byte{0x89, 0}, unmasked},
	{"a ping of 126 bytes", frame(0x89, strings.Repeat("a", 126)), longControl},
	{"a pong with a 64-bit length", header(0x8a, 1<<64-1), longControl},
	{"a close of 65,535 bytes", []byte{0x88, 0xfe, 0xff, 0xff}, longControl},
	{"a ping in fragments", frame(0x09, "a"), fragmentedControl},
	{"a continuation of nothing", frame(0x80, "a"), strayContinuation},
	{"a text within fragments", join(frame(0x01, "a"), frame(0x81, "b")), brokenFragments},
	{"after legal frames", join(frame(0x8a, "a"), frame(0x8a, ""), header(0x81, 1<<64-1)), negativeLength},
}

func TestFramesAreJudgedByTheirHeaders(t *testing.T) {
	afterMessage := violations[0] // whose own message ends the connection on a real server
	afterMessage.name = "a continuation after the last"
	afterMessage.sent, afterMessage.wrong = join(frame(0x01, "a"), frame(0x80, "b"), frame(0x00, "c")), strayContinuation
	for _, c := range append(violations[:len(violations):len(violations)], afterMessage) {
		for _, size := range []int{1, 3, 512, 1 << 20} {
			var f frameChecker
			var wrong *violation
			for sent := c.sent; wrong == nil && len(sent) > 0; {
				some := sent[:min(size, len(sent))]
				sent = sent[len(some):]
				_, wrong = f.pass(some)
			}
			if wrong != c.wrong {
				t.Errorf("%s, %d bytes at once: got %v, want %v", c.name, size, wrong, c.wrong)
			}
		}
	}
}

func TestLegalFramesPass(t *testing.T) {
	large := strings.Repeat("a", protocol.MaxFrame)
	for name, sent := range map[string][]byte{
		"nothing":          {},
		"empty":            frame(0x81, ""),
		"7 bits":           frame(0x81, large[:125]),
		"16 bits":          frame(0x82, large[:126]),
		"16 bits at most":  frame(0x81, large[:1<<16-1]),
		"as large as may":  frame(0x81, large),
		"fragments":        join(frame(0x01, large[:60000]), frame(0x89, large[:125]), frame(0x00, ""), frame(0x80, large[:5536]), frame(0x81, large)),
		"control frames":   join(frame(0x89, ""), frame(0x8a, "a"), frame(0x88, "\x03\xe8")),
		"half of a header": header(0x81, 1<<16)[:9],
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			var f frameChecker
			for sent := sent; len(sent) > 0; {
				some := sent[:min(size, len(sent))]
				sent = sent[len(some):]
				if n, wrong := f.pass(some); n != len(some) || wrong != nil {
					t.Fatalf("%s, %d bytes at once: %d of %d bytes passed, %v", name, size, n, len(some), wrong)
				}
			}
		}
	}
}

func TestFramesAllocateNothing(t *testing.T) {
	sent, f := join(frame(0x01, "abc"), frame(0x89, ""), frame(0x80, strings.Repeat("a", 200))), &frameChecker{}
	if got := testing.AllocsPerRun(100, func() { f.pass(sent) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// inSocketIO is where internal/socketio counts a panic.
const inSocketIO = "a Socket.IO connection"

// webSocketPaths are the paths at which a stranger opens a WebSocket.
var webSocketPaths = map[string]string{"native": "/v1/signal", "Socket.IO": "/socket.io/?EIO=4&transport=websocket&username=Eve"}

// rawWebSocket is a WebSocket whose bytes a test writes itself.
type rawWebSocket struct {
	net.Conn
	in *bufio.Reader
}

// openWebSocket opens a WebSocket on a connection.
func openWebSocket(conn net.Conn, path string) (*rawWebSocket, error) {
	r := &rawWebSocket{conn, bufio.NewReader(conn)}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n", path)
	if err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(r.in, nil)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.Join(errors.New(answer.Status), answer.Body.Close())
	}
	return r, nil
}

// closed reads up to the server's close frame, and is its code.
func (r *rawWebSocket) closed() (protocol.CloseCode, error) {
	for {
		first, err1 := r.in.ReadByte()
		second, err2 := r.in.ReadByte()
		length := int(second)
		var err3 error
		if length == length16 {
			var b [2]byte
			_, err3 = io.ReadFull(r.in, b[:])
			length = int(binary.BigEndian.Uint16(b[:]))
		}
		payload := make([]byte, length)
		_, err4 := io.ReadFull(r.in, payload)
		switch err := errors.Join(err1, err2, err3, err4); {
		case err != nil:
			return 0, err
		case first == 0x88 && length >= 2:
			return protocol.CloseCode(binary.BigEndian.Uint16(payload)), nil
		}
	}
}

// A stranger's illegal frame closes the stranger's connection, on both webSocketPaths, with and
// without TLS, and everybody else stays.
func TestAnIllegalFrameIsItsSendersOwn(t *testing.T) {
	certificate := selfSigned(t)
	for scheme, change := range map[string]func(*Config){
		"http": func(*Config) {},
		"https": func(c *Config) {
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }
		},
	} {
		s := serve(t, change)
		dial := func() net.Conn {
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if scheme == "https" {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // itself is what it talks to
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			return conn
		}
		for name, path := range webSocketPaths {
			t.Run(scheme+" "+name, func(t *testing.T) {
				other, err := openWebSocket(dial(), path)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = other.Close() }()
				for _, v := range violations {
					r, err := openWebSocket(dial(), path)
					if err != nil {
						t.Fatalf("%s: %v", v.name, err)
					}
					// More than the server takes in before it closeClient: the code is not lost by it.
					if _, err := r.Write(join(v.sent, make([]byte, 4096))); err != nil {
						t.Fatalf("%s: %v", v.name, err)
					}
					if code, err := r.closed(); code != v.wrong.code {
						t.Errorf("%s: closed with %d, %v, want %d", v.name, code, err, v.wrong.code)
					}
					_ = r.Close()
				}
				if _, err := other.Write(frame(0x88, "\x03\xe8")); err != nil {
					t.Fatal(err)
				}
				if code, err := other.closed(); code != 1000 {
					t.Errorf("somebody else: closed with %d, %v", code, err)
				}
			})
		}
	}
}

func TestBytesAheadOfTheAnswerAreRefused(t *testing.T) {
	s := serve(t, nil)
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.WriteString(conn, "GET /v1/signal HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n\x81\x81")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("answered %s", answer.Status)
	}
}

// messageCounter is a gws event handler that counts what reaches it.
type messageCounter struct {
	gws.BuiltinEventHandler
	messages, bytes int
}

func (c *messageCounter) OnMessage(_ *gws.Conn, m *gws.Message) {
	c.messages++
	c.bytes += m.Data.Len()
	_ = m.Close()
}

// FuzzFrames feeds a client's raw bytes to gws behind frames: nothing panics, what passes
// does not depend on how the bytes are cut, and gws finds no fault that frames let pass.
func FuzzFrames(f *testing.F) {
	for _, v := range violations {
		f.Add(v.sent, uint16(3))
	}
	f.Add(join(frame(0x01, "a"), frame(0x89, "b"), frame(0x80, "c"), frame(0x88, "\x03\xe8")), uint16(1))
	f.Fuzz(func(t *testing.T, sent []byte, size uint16) {
		var whole frameChecker
		legal, wrong := whole.pass(sent)
		var cut frameChecker
		passed, cutWrong := 0, (*violation)(nil)
		for passed < len(sent) && cutWrong == nil {
			some := sent[passed:min(passed+1+int(size), len(sent))]
			var n int
			n, cutWrong = cut.pass(some)
			passed += n
		}
		if passed != legal || cutWrong != wrong || wrong == nil && cut != whole {
			t.Errorf("at once %d bytes and %v, in pieces %d and %v", legal, wrong, passed, cutWrong)
		}
		got := readAll(t, sent[:legal])
		if errors.Is(got, io.ErrUnexpectedEOF) || errors.Is(got, io.EOF) {
			return // all was read
		}
		if closed := (*gws.CloseError)(nil); !errors.As(got, &closed) { // a close frame ends it before
			t.Errorf("gws says %v of what has passed", got)
		}
	})
}

// readAll has gws read a client's bytes, and is the error it ends with.
func readAll(t *testing.T, sent []byte) error {
	t.Helper()
	ended := make(chan error, 1)
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/v1/signal", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
	} {
		r.Header.Set(name, value)
	}
	upgrader := gws.NewUpgrader(&closeWatcher{with: ended}, &gws.ServerOption{ReadMaxPayloadSize: protocol.MaxFrame})
	socket, err := upgrade(upgrader, &hijackable{w, &fakeConn{Reader: bytes.NewReader(sent)}}, r)
	if err != nil {
		t.Fatal(err)
	}
	socket.ReadLoop()
	return <-ended
}

type closeWatcher struct {
	messageCounter
	with chan error
}

func (e *closeWatcher) OnClose(_ *gws.Conn, err error) { e.with <- err }

// hijackable is a response whose connection can be hijacked.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

func (w *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	none := strings.NewReader("")
	return w.conn, bufio.NewReadWriter(bufio.NewReader(none), bufio.NewWriter(io.Discard)), nil
}

// fakeConn is a connection whose client sends the bytes of Reader and no more.
type fakeConn struct{ io.Reader }

func (*fakeConn) Write(b []byte) (int, error)      { return len(b), nil }
func (*fakeConn) Close() error                     { return nil }
func (*fakeConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*fakeConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*fakeConn) SetDeadline(time.Time) error      { return nil }
func (*fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (*fakeConn) SetWriteDeadline(time.Time) error { return nil }

// closeSignaler is a connection that says when the server has closed it.
type closeSignaler struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (e *closeSignaler) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Conn.Close()
}

// FuzzWebSockets sends a client's raw bytes after the handshake to both webSocketPaths of a whole edge.
// Nothing panics, and each connection ends with what it was sent.
func FuzzWebSockets(f *testing.F) {
	s := serve(f, func(c *Config) { // whose log is not the test's: that may not be used below
		c.Log = slog.New(slog.DiscardHandler)
		c.Hub, _ = hub.New(hub.Config{Log: c.Log})
		c.Hub.Handle(fakeHandler{})
	})
	for _, v := range violations {
		f.Add(v.sent, true)
		f.Add(v.sent, false)
	}
	f.Add(join(frame(0x81, `{"type":"hello","version":1,"name":"Ann"}`), frame(0x81, `{"type":"pong"}`)), true)
	f.Add(join(frame(0x81, `40`), frame(0x81, `42["offer",{}]`), frame(0x89, "")), false)
	handler, visitors := s.routes(), uint32(0)
	f.Fuzz(func(t *testing.T, sent []byte, native bool) {
		before := 0
		for _, in := range []string{inReader, inHello, inTimer, inSocketIO, inHTTP} {
			before += panics.Count(in)
		}
		path := webSocketPaths["Socket.IO"]
		if native {
			path = webSocketPaths["native"]
		}
		client, server := net.Pipe()
		conn := &closeSignaler{Conn: server, closed: make(chan struct{})}
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
		r.Host = "localhost"
		visitors++ // each from an address of its own: limits are others' concern
		r.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(visitors >> 16), byte(visitors >> 8), byte(visitors)}), 1).String()
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
		} {
			r.Header.Set(name, value)
		}
		go func() { _, _ = io.Copy(io.Discard, client) }()
		w := httptest.NewRecorder()
		handler.ServeHTTP(&hijackable{w, conn}, r)
		if w.Body.Len() > 0 {
			t.Fatalf("%s is refused: %s", path, w.Body)
		}
		_ = client.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = client.Write(sent) // fails where the server closes first
		_ = client.Close()
		select {
		case <-conn.closed:
		case <-time.After(10 * time.Second):
			t.Fatalf("%x: the connection does not end", sent)
		}
		after := 0
		for _, in := range []string{inReader, inHello, inTimer, inSocketIO, inHTTP} {
			after += panics.Count(in)
		}
		if after != before {
			t.Errorf("%x: %d panics", sent, after-before)
		}
	})
}
