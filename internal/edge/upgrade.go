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

// upgrade makes a request a WebSocket.
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
	l := &link{Conn: conn}
	socket, err := upgrader.UpgradeFromConn(l, bufio.NewReaderSize(l, 512), r)
	if err != nil {
		return nil, err
	}
	l.socket = socket
	return socket, nil
}

var errEarly = errors.New("the client sent more than its request")

// link is the connection beneath a WebSocket, as gws sees it: what is read from it is
// legal, and Close leaves it open for reading for a moment.
type link struct {
	net.Conn
	socket *gws.Conn // set before the first Read
	frames frames    // owned by the reader
	wrong  *violation
	timed  bool // a read deadline is set; owned by the reader
	half   bool // and it is that of a message which has begun; owned by the reader
}

// messageTimeout is how long a message may take from its first byte to its last: that
// of 128 KiB at 35 kbit/s.
const messageTimeout = 30 * time.Second

// SetReadDeadline implements [net.Conn]. The reader calls it, or nobody reads yet.
func (l *link) SetReadDeadline(t time.Time) error {
	l.timed, l.half = !t.IsZero(), false
	return l.Conn.SetReadDeadline(t)
}

// bound sets a read deadline while a message has begun and has not ended. Most messages
// arrive with one read and never need one; the runtime has the timer of a connection
// anyway.
func (l *link) bound() {
	switch half := l.frames.unfinished(); {
	case half && !l.timed:
		_ = l.SetReadDeadline(time.Now().Add(messageTimeout))
		l.half = true
	case !half && l.half:
		_ = l.SetReadDeadline(time.Time{})
	}
}

// Read implements [io.Reader] for gws' reader. What violates the protocol closes the
// WebSocket with the violation's code, and gws never sees it.
func (l *link) Read(b []byte) (int, error) {
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

// refuse closes the WebSocket and reads on until the client has closed the connection,
// too, or closeTimeout is over: input that nobody has read would reset the connection,
// and the client would not learn the code.
func (l *link) refuse(scratch []byte) error {
	_ = l.SetWriteDeadline(time.Now().Add(closeTimeout))
	_ = l.socket.WriteClose(uint16(l.wrong.code), []byte(l.wrong.reason))
	for {
		if _, err := l.Conn.Read(scratch); err != nil {
			return err
		}
	}
}

// Close sends nothing more, and closes when the reader has come to the end or
// closeTimeout is over. gws closes right after its close frame: with input that nobody
// has read the connection would be reset, and the client would not learn the code.
func (l *link) Close() error {
	half, ok := l.Conn.(interface{ CloseWrite() error }) // *net.TCPConn, *tls.Conn
	if !ok {
		return l.Conn.Close()
	}
	time.AfterFunc(closeTimeout, func() { _ = l.Conn.Close() })
	return errors.Join(l.Conn.SetReadDeadline(time.Now().Add(closeTimeout)), half.CloseWrite())
}

// closeNow is for a WebSocket's reader when it has come to the end.
func closeNow(socket *gws.Conn) {
	if l, ok := socket.NetConn().(*link); ok {
		_ = l.Conn.Close()
	}
}

// outletOf is the outlet of a WebSocket; nil when it has none.
func outletOf(socket *gws.Conn) *outlet {
	l, ok := socket.NetConn().(*link)
	if !ok {
		return nil
	}
	conn := l.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	o, _ := conn.(*outlet)
	return o
}
