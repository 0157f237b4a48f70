package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/lxzan/gws"
)

// accepting is how New listens, with bounds that no test meets.
func accepting(l net.Listener) net.Listener {
	return limitedListener{l, newLimits(1000, 1000, nil), func(netip.Addr) bool { return false }}
}

// pipe returns both ends of a TCP connection: the server's clientConn and the client's.
func pipe(t *testing.T) (*clientConn, *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := accepting(listener).Accept()
	if err != nil {
		t.Fatal(err)
	}
	o := accepted.(*clientConn)
	t.Cleanup(func() { _ = errors.Join(o.Close(), conn.Close()) })
	return o, conn.(*net.TCPConn)
}

// stuff writes until it would have to wait, and a little more.
func stuff(t *testing.T, o *clientConn, w io.Writer) (wrote []byte) {
	t.Helper()
	padding := bytes.Repeat([]byte("x"), 10_000)
	write := func() {
		line := fmt.Appendf(nil, "%d %s\n", len(wrote), padding)
		wrote = append(wrote, line...)
		if n, err := w.Write(line); err != nil || n != len(line) {
			t.Fatalf("%d of %d bytes: %v", n, len(line), err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); !o.waiting(); write() {
		if time.Now().After(deadline) {
			t.Fatal("a client that reads nothing takes everything")
		}
	}
	write()
	write()
	return wrote
}

func TestANonblockingConnNeverWaitsAndLosesNothing(t *testing.T) {
	certificate := selfSigned(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			o, conn := pipe(t)
			var ours, theirs net.Conn = o, conn
			if secure {
				server := tls.Server(o, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
				client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // itself is what it talks to
				shaken := make(chan error, 1)
				go func() { shaken <- server.Handshake() }()
				if err := errors.Join(client.Handshake(), <-shaken); err != nil {
					t.Fatal(err)
				}
				ours, theirs = server, client
			}
			if err := o.setNonblocking(); err != nil {
				t.Fatal(err)
			}
			wrote := stuff(t, o, ours)
			read := make(chan []byte, 1)
			go func() { b, _ := io.ReadAll(theirs); read <- b }()
			if err := o.wait(); err != nil || o.waiting() {
				t.Errorf("after wait: %v, still waiting: %v", err, o.waiting())
			}
			wrote = append(wrote, '.')
			if _, err := ours.Write([]byte(".")); err != nil || o.waiting() {
				t.Errorf("a last byte: %v, waiting: %v", err, o.waiting())
			}
			_ = ours.Close()
			if got := <-read; !bytes.Equal(got, wrote) {
				t.Errorf("%d bytes arrived, %d were written", len(got), len(wrote))
			}
		})
	}
}

func TestABacklogEndsWithItsConnection(t *testing.T) {
	o, conn := pipe(t)
	if err := o.setNonblocking(); err != nil {
		t.Fatal(err)
	}
	stuff(t, o, o)
	_ = conn.SetLinger(0)
	_ = conn.Close()
	if err := o.wait(); err == nil {
		t.Error("the client has reset the connection, but its backlog has gone somewhere")
	}
	if _, err := o.Write([]byte("x")); err == nil {
		t.Error("a connection that has failed takes more")
	}
}

func TestEveryWebSocketHasAClientConn(t *testing.T) {
	certificate := selfSigned(t)
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			found := make(chan *clientConn, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				socket, err := upgrade(newUpgrader(nil), w, r)
				if err != nil {
					t.Error(err)
					found <- nil
					return
				}
				found <- clientConnOf(socket)
				_ = socket.NetConn().Close()
			}))
			server.Listener = accepting(server.Listener)
			if scheme == "wss" { // as New listens
				server.Listener = tls.NewListener(server.Listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
			}
			server.Start()
			defer server.Close()
			//nolint:bodyclose // a WebSocket's answer has none
			socket, _, err := gws.NewClient(gws.BuiltinEventHandler{}, &gws.ClientOption{
				Addr:      scheme + "://" + server.Listener.Addr().String(),
				TlsConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // itself is what it talks to
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = socket.NetConn().Close() }()
			if <-found == nil {
				t.Error("there is no clientConn")
			}
		})
	}
}
