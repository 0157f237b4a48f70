package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/relay/wire"
)

// Clients that connect and say half a message keep nobody out: a thousand fill the source, and the oldest make room.
func TestHalfOpenClients(t *testing.T) {
	const many = 1000
	s, reg, friend := startForMany(t, many, time.Minute) // nobody is gone before all have come
	halfOpen(t, s, many+100)
	friend.want(0, stun.MethodRefresh)
	eventually(t, reg, 100, "refused_total", "connections")
	talk(t, s, "tcp").allocate()
	eventually(t, reg, many, "tcp_connections")
}

// They are gone in time.
func TestHalfOpenClientsTimeOut(t *testing.T) {
	const many = 1000
	s, reg, friend := startForMany(t, many, 2*time.Second)
	halfOpen(t, s, many)
	friend.want(0, stun.MethodRefresh)
	eventually(t, reg, 0, "tcp_connections")
	timeouts, handshakes := metric(t, reg, "refused_total", "timeout"), metric(t, reg, "refused_total", "handshake")
	if timeouts != many/2 || handshakes != many/2 {
		t.Errorf("%v time-outs, %v broken handshakes, want %d of each", timeouts, handshakes, many/2)
	}
}

// startForMany is a server on which one source may have so many connections, and a client of it.
func startForMany(t *testing.T, many int, patience time.Duration) (*Server, *prometheus.Registry, *talker) {
	t.Helper()
	cfg := testConfig()
	secured(t, "127.0.0.1:0", false)(&cfg)
	cfg.SourceConnections = many
	reg := prometheus.NewRegistry()
	s, err := New(bound(t, cfg), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = patience
	run(t, s)
	friend := talk(t, s, "udp")
	friend.allocate()
	return s, reg, friend
}

// halfOpen connects so many clients, half of them by TLS, which begin to say something and stay.
func halfOpen(t *testing.T, s *Server, many int) {
	t.Helper()
	for i := range many {
		at, say := s.Addr().String(), "\x00\x01"
		if i%2 == 1 {
			at, say = s.secureAddr().String(), "\x16\x03\x01"
		}
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = conn.Write([]byte(say)) // fails where it has made room already
	}
}

// A client that does not read loses media, late as it would be, and keeps the answers it is owed; memory is bounded.
func TestSlowReader(t *testing.T) {
	for carrier, portable := range carriers {
		t.Run(carrier, func(t *testing.T) {
			s, reg := start(t, func(c *Config) { c.Portable, c.BitRate, c.PacketRate = portable, 1e9, 1e6 })
			k := talk(t, s, "tcp")
			_ = k.Conn.(*net.TCPConn).SetReadBuffer(4096)
			relayed := k.allocate()
			far, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			k.want(0, stun.MethodChannelBind, channel(0x4000), peer(far.LocalAddr().String()))

			payload := []byte(strings.Repeat("m", 1000))
			var late float64
			for deadline := time.Now().Add(long); late < 100 && time.Now().Before(deadline); {
				for range 50 {
					if _, err := far.WriteTo(payload, net.UDPAddrFromAddrPort(relayed)); err != nil {
						t.Fatal(err)
					}
				}
				late = metric(t, reg, "dropped_total", "late")
			}
			if late < 100 {
				t.Fatalf("%v packets are late, want more", late)
			}
			k.want(0, stun.MethodRefresh) // reads over the media that waits
			// Sent until it finds room in the queue, behind the media that waits.
			for media := 0; ; media++ {
				if _, err := far.WriteTo([]byte("again"), net.UDPAddrFromAddrPort(relayed)); err != nil {
					t.Fatal(err)
				}
				got := k.read(long)
				if got == nil {
					t.Fatal("nothing comes when the client reads again")
				}
				if strings.Contains(string(got), "again") {
					t.Logf("%d packets waited", media)
					break
				}
			}
		})
	}
}

// A client that never reads its answers is hung up on before they fill the memory.
func TestAnswersThatNobodyReads(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	s := &Server{metrics: newMetrics(), patience: time.Minute}
	c := &stream{server: s, conn: server, socket: server}
	answer := make([]byte, 100)
	most := 0
	for range 10 * longestQueue / len(answer) {
		c.write(answer, nil, true)
		c.mu.Lock()
		most = max(most, len(c.queue))
		c.mu.Unlock()
	}
	s.streaming.Wait()
	if !c.closed || most > longestQueue {
		t.Errorf("closed: %v, up to %d bytes wait, want a closed connection and %d at most", c.closed, most, longestQueue)
	}
}

func TestStreamTakesNoMemoryForPackets(t *testing.T) {
	s, _ := start(t, func(c *Config) { c.BitRate, c.PacketRate = 1e9, 1e7 })
	k := talk(t, s, "tcp")
	k.allocate()
	far, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	k.want(0, stun.MethodChannelBind, channel(0x4000), peer(far.LocalAddr().String()))
	frame := []byte("\x40\x00\x00\x08contents")
	got := make([]byte, 100)
	exchange := func() {
		k.write(frame)
		n, from, err := far.(*net.UDPConn).ReadFromUDPAddrPort(got)
		if err != nil || n != 8 {
			t.Fatal(n, err)
		}
		if _, err := far.(*net.UDPConn).WriteToUDPAddrPort(got[:n], from); err != nil {
			t.Fatal(err)
		}
		if n, err := k.Read(got); err != nil || n != len(frame) {
			t.Fatal(n, err)
		}
	}
	exchange()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 500
	for range rounds {
		exchange()
	}
	runtime.ReadMemStats(&after)
	// A writer goroutine comes and goes with each packet here.
	if got := float64(after.Mallocs-before.Mallocs) / rounds; got > 5 {
		t.Errorf("%.1f allocations for a packet each way, want a writer's at most", got)
	}
}

func TestTLSClientsMayPause(t *testing.T) {
	s, _ := start(t, secured(t, "127.0.0.1:0", false))
	conn, err := tls.Dial("tcp", s.secureAddr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Frames in pieces, and several in one piece.
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	for _, piece := range [][]byte{binding[:3], binding[3:10], append(append([]byte(nil), binding[10:]...), binding...)} {
		if _, err := conn.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(long))
	for i := range 2 {
		b := make([]byte, 100)
		n, err := wire.ReadFrame(conn, b)
		if err != nil || !wire.IsSTUN(b[:n]) {
			t.Fatal(fmt.Sprint("answer ", i, ": ", n, err))
		}
	}
}

func TestSpinningFrames(t *testing.T) {
	s, reg := start(t, nil)
	closed := 0.0
	for name, frame := range spinning {
		k := talk(t, s, "tcp")
		k.write(frame)
		_ = k.SetReadDeadline(time.Now().Add(long))
		if n, err := k.Read(make([]byte, 1)); n != 0 || errors.Is(err, io.ErrNoProgress) || isTimeout(err) {
			t.Errorf("%s: read %d bytes, %v, want a closed connection", name, n, err)
		}
		closed++
		eventually(t, reg, closed, "dropped_total", "length")
		for _, network := range []string{"udp", "tcp"} {
			k := talk(t, s, network)
			if k.exchange(k.message(stun.BindingRequest)) == nil {
				t.Errorf("%s: no answer over %s afterwards", name, network)
			}
		}
	}
}

// A client that speaks TLS to the port for TCP is hung up on at its first byte, not when its time is over.
func TestTLSWithoutTLS(t *testing.T) {
	s, reg := start(t, nil)
	k := talk(t, s, "tcp")
	k.write([]byte{0x16, 3, 1, 0, 0xf8, 1})
	_ = k.SetReadDeadline(time.Now().Add(patience / 2))
	if n, err := k.Read(make([]byte, 1)); n != 0 || isTimeout(err) {
		t.Errorf("read %d bytes, %v, want a closed connection", n, err)
	}
	eventually(t, reg, 1, "dropped_total", "shape")
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestLongFrameIsReadOver(t *testing.T) {
	s, reg := start(t, nil)
	k := talk(t, s, "tcp")
	k.write(append([]byte{0x40, 0, 0x70, 0}, make([]byte, 0x7000)...))
	if k.exchange(k.message(stun.BindingRequest)) == nil {
		t.Error("no answer after a long frame")
	}
	eventually(t, reg, 1, "dropped_total", "length")
}

func TestSlowStreams(t *testing.T) {
	cfg := testConfig()
	reg := prometheus.NewRegistry()
	s, err := New(bound(t, cfg), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = 100 * time.Millisecond
	run(t, s)

	silent, half, asking := talk(t, s, "tcp"), talk(t, s, "tcp"), talk(t, s, "tcp")
	half.write([]byte{0, 1})
	asking.exchange(asking.message(stun.BindingRequest))
	for _, k := range []*talker{silent, half, asking} {
		_ = k.SetReadDeadline(time.Now().Add(long))
		if _, err := k.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("read: %v, want a closed connection", err)
		}
	}
	eventually(t, reg, 3, "refused_total", "timeout")
	eventually(t, reg, 0, "tcp_connections")
}

func TestStreamWithAllocationMayPause(t *testing.T) {
	cfg := testConfig()
	reg := prometheus.NewRegistry()
	s, err := New(bound(t, cfg), nil, reg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = time.Second
	run(t, s)
	k := talk(t, s, "tcp")
	k.allocate()
	if b := k.read(s.patience * 5 / 4); b != nil {
		t.Errorf("got %x, want nothing", b)
	}
	k.want(0, stun.MethodRefresh)
	_ = k.Close()
	eventually(t, reg, 0, "allocations")
	eventually(t, reg, 0, "tcp_connections")
}

// A source that is full is no lock: a newcomer takes the place of the oldest connection that has come to nothing.
func TestConnectionsAreBounded(t *testing.T) {
	for name, bound := range map[string]func(*Config){
		"of a source": func(c *Config) { c.SourceConnections = 3 },
		"of all":      func(c *Config) { c.MaxConnections = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			s, reg := start(t, bound)
			closed := func(k *talker) {
				t.Helper()
				_ = k.SetReadDeadline(time.Now().Add(long))
				if _, err := k.Read(make([]byte, 1)); err == nil || isTimeout(err) {
					t.Errorf("read: %v, want a closed connection", err)
				}
			}
			user := talk(t, s, "tcp")
			user.allocate()
			idle := []*talker{talk(t, s, "tcp"), talk(t, s, "tcp")}
			for _, k := range idle {
				if k.exchange(k.message(stun.BindingRequest)) == nil {
					t.Error("a connection within the bound is refused")
				}
			}
			for _, k := range idle {
				talk(t, s, "tcp").allocate()
				closed(k)
			}
			eventually(t, reg, 3, "tcp_connections")
			closed(talk(t, s, "tcp")) // all others are in use
			user.want(0, stun.MethodRefresh)
			eventually(t, reg, 3, "refused_total", "connections")
			_ = user.Close()
			eventually(t, reg, 2, "tcp_connections")
			talk(t, s, "tcp").allocate()
		})
	}
}

// A connection that a proxy introduces while the server stops must not keep that waiting.
func TestAConnectionEndsWithItsServer(t *testing.T) {
	s, reg := start(t, nil)
	for _, when := range []string{"before it is admitted", "after it is admitted"} {
		client, socket := tcpPair(t)
		ctx, stop := context.WithCancel(t.Context())
		if when == "before it is admitted" {
			stop()
		}
		s.admit(ctx, socket, socket, client.LocalAddr().(*net.TCPAddr).AddrPort(), false)
		stop()
		_ = client.SetReadDeadline(time.Now().Add(long))
		if _, err := client.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("stopped %s: read: %v, want a closed connection", when, err)
		}
		eventually(t, reg, 0, "tcp_connections")
	}
}

// tcpPair is both ends of a connection.
func tcpPair(t *testing.T) (client net.Conn, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, conn.(*net.TCPConn)
}
