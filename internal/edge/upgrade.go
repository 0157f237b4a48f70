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
	conn, _, err := hijacker.Hijack() // a client says nothing before our answer
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = &outlet{TCPConn: tcp}
	}
	return upgrader.UpgradeFromConn(&lingering{Conn: conn}, bufio.NewReaderSize(conn, 512), r)
}

// lingering is a connection whose Close leaves it open for reading for a moment.
// gws closes right after its close frame: with input that nobody has read the
// connection would be reset, and the client would not learn the code.
type lingering struct{ net.Conn }

// Close sends nothing more, and closes when the reader has come to the end or
// closeTimeout is over.
func (c *lingering) Close() error {
	half, ok := c.Conn.(interface{ CloseWrite() error }) // *net.TCPConn, *tls.Conn
	if !ok {
		return c.Conn.Close()
	}
	time.AfterFunc(closeTimeout, func() { _ = c.Conn.Close() })
	return errors.Join(c.SetReadDeadline(time.Now().Add(closeTimeout)), half.CloseWrite())
}

// closeNow is for a WebSocket's reader when it has come to the end.
func closeNow(socket *gws.Conn) {
	if c, ok := socket.NetConn().(*lingering); ok {
		_ = c.Conn.Close()
	}
}

// outletOf is the outlet of a WebSocket; nil when it has none.
func outletOf(socket *gws.Conn) *outlet {
	c, ok := socket.NetConn().(*lingering)
	if !ok {
		return nil
	}
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	o, _ := conn.(*outlet)
	return o
}
