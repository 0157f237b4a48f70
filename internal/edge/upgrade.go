package edge

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/lxzan/gws"
)

// closeTimeout is how long a client has to answer our close frame.
const closeTimeout = time.Second

// upgrade takes over the connection of a request and makes it a WebSocket.
func upgrade(upgrader *gws.Upgrader, w http.ResponseWriter, r *http.Request) (*gws.Conn, error) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return nil, errors.New("the connection cannot be taken over")
	}
	conn, early, err := hijacker.Hijack()
	if err != nil {
		return nil, err
	}
	if early.Reader.Buffered() > 0 { // RFC 6455 §4.1: a client sends nothing before our answer
		_, err := conn.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		return nil, errors.Join(errEarly, err, conn.Close())
	}
	l := &checkedConn{Conn: conn}
	socket, err := upgrader.UpgradeFromConn(l, bufio.NewReaderSize(l, 512), r)
	if err != nil {
		return nil, err
	}
	l.socket = socket
	return socket, nil
}

var errEarly = errors.New("the client sent more than its request")

// checkedConn is the connection beneath a WebSocket, as gws sees it. Read returns only
// legal frames. Close leaves the connection open for reading for closeTimeout.
type checkedConn struct {
	net.Conn
	socket *gws.Conn    // set before the first Read
	frames frameChecker // owned by the reader
	wrong  *violation
	timed  bool // a read deadline is set; owned by the reader
	half   bool // the deadline is for the rest of a message; owned by the reader
}

// messageTimeout bounds the time from the first byte of a message to its last. The
// largest message has 128 KiB, which takes 30 s at 35 kbit/s.
const messageTimeout = 30 * time.Second

// SetReadDeadline implements [net.Conn]. Only the reader may call it, once there is one.
func (l *checkedConn) SetReadDeadline(t time.Time) error {
	l.timed, l.half = !t.IsZero(), false
	return l.Conn.SetReadDeadline(t)
}

// bound sets a read deadline while a message is incomplete, and removes it afterwards.
// Most messages arrive with one read and need no deadline.
func (l *checkedConn) bound() {
	switch half := l.frames.unfinished(); {
	case half && !l.timed:
		_ = l.SetReadDeadline(time.Now().Add(messageTimeout))
		l.half = true
	case !half && l.half:
		_ = l.SetReadDeadline(time.Time{})
	}
}

// Read implements [io.Reader] for gws' reader. A frame that violates the protocol
// closes the WebSocket with the violation's code. gws never sees that frame.
func (l *checkedConn) Read(b []byte) (int, error) {
	if l.wrong != nil {
		return 0, l.refuse(b)
	}
	n, err := l.Conn.Read(b)
	legal, wrong := l.frames.pass(b[:n])
	if wrong == nil {
		l.bound()
		return n, err
	}
	l.wrong = wrong
	if legal == 0 {
		return 0, l.refuse(b)
	}
	return legal, nil // the frames before it count
}

// refuse closes the WebSocket. It then reads until the client closes the connection or
// closeTimeout is over. Closing with unread input would reset the connection, and the
// client would not receive the close code.
func (l *checkedConn) refuse(scratch []byte) error {
	_ = l.SetWriteDeadline(time.Now().Add(closeTimeout))
	_ = l.socket.WriteClose(uint16(l.wrong.code), []byte(l.wrong.reason))
	for {
		if _, err := l.Conn.Read(scratch); err != nil {
			return err
		}
	}
}

// Close ends sending at once. The connection closes when the reader has come to the end
// or closeTimeout is over. gws calls Close right after its close frame. Closing with
// unread input would reset the connection, and the client would not receive the code.
func (l *checkedConn) Close() error {
	half, ok := l.Conn.(interface{ CloseWrite() error }) // *net.TCPConn, *tls.Conn
	if !ok {
		return l.Conn.Close()
	}
	time.AfterFunc(closeTimeout, func() { _ = l.Conn.Close() })
	return errors.Join(l.Conn.SetReadDeadline(time.Now().Add(closeTimeout)), half.CloseWrite())
}

// closeNow closes the connection of a WebSocket without delay. The reader calls it when it has come to the end.
func closeNow(socket *gws.Conn) {
	if l, ok := socket.NetConn().(*checkedConn); ok {
		_ = l.Conn.Close()
	}
}

// clientConnOf returns the clientConn of a WebSocket, or nil if the connection is not TCP.
func clientConnOf(socket *gws.Conn) *clientConn {
	l, ok := socket.NetConn().(*checkedConn)
	if !ok {
		return nil
	}
	conn := l.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	o, _ := conn.(*clientConn)
	return o
}
