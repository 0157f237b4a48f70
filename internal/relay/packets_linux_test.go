package relay

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/relay/wire"
)

// A crossing is a worker with two clients: each has a channel 0x4000 to far, which has agreed, and 0x4001 to the other's
// relayed address, and a permission for far's IP.
type crossing struct {
	worker  *worker
	clients []*net.UDPConn
	sockets []*relaySocket
	far     *net.UDPConn
	agreed  *contacts // far's consent
}

func cross(t testing.TB) *crossing {
	t.Helper()
	s, err := New(Config{
		Listener: listen(t, "127.0.0.1:0"), Secrets: [][]byte{secret}, BitRate: 2e9, PacketRate: 1e9,
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runOut(t, s) })
	c := s.control
	x := &crossing{worker: s.carrier.(*batchedCarrier).workers[0]}
	if x.far, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.far.Close() })
	farAt := endpointOf(x.far.LocalAddr().(*net.UDPAddr).AddrPort())
	for range 2 {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		x.clients = append(x.clients, conn)
		a := &allocation{
			source: source{endpointOf(conn.LocalAddr().(*net.UDPAddr).AddrPort()), overUDP}, holder: new(holder), origin: new(origin),
			expires: time.Now().Add(time.Hour),
		}
		a.table.Store(new(table))
		rs, no := c.bind(a, 4, false)
		if no != nil {
			t.Fatal(no)
		}
		a.sockets[0] = rs
		x.sockets = append(x.sockets, rs)
		c.mu.Lock()
		c.addLocked(a)
		c.mu.Unlock()
	}
	forever := int64(1) << 60
	x.agreed = new(contacts)
	x.agreed.agree(farAt.Port, c.clock(time.Now()))
	for i, rs := range x.sockets {
		rs.allocation.table.Store(&table{
			channels: []binding{
				{0x4000, farAt, rs, forever, true, x.agreed}, {0x4001, x.sockets[1-i].relayed, rs, forever, false, nil},
			},
			permissions: []permission{{ip: farAt.IP, ends: forever, direct: true, contacts: x.agreed}},
		})
	}
	return x
}

// A worker's part in a packet, from the one system call to the other.
func TestPacketsTakeNoMemory(t *testing.T) {
	x := cross(t)
	w, clients, sockets, far := x.worker, x.clients, x.sockets, x.far
	c := w.carrier.server.control
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()

	indication := stun.MustBuild(stun.TransactionID, send, toward(far.LocalAddr().(*net.UDPAddr).AddrPort()), raw{stun.AttrData, "data"})
	relayedAt := net.UDPAddrFromAddrPort(sockets[0].relayed.AddrPort())
	write := func(conn *net.UDPConn, to *net.UDPAddr, packet []byte) func() {
		return func() {
			var err error
			if to != nil {
				_, err = conn.WriteToUDPAddrPort(packet, to.AddrPort())
			} else {
				_, err = conn.Write(packet)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	long := chanData(0x4000, strings.Repeat("x", 1000))
	for name, test := range map[string]struct {
		write func()
		times int
		count func() uint64
	}{
		"up":        {write(clients[0], nil, long), 1, c.router.flow.up.packets.Load},
		"up, many":  {write(clients[0], nil, long), 20, c.router.flow.up.packets.Load},
		"Send":      {write(clients[0], nil, indication.Raw), 1, c.router.flow.up.packets.Load},
		"handed":    {write(clients[0], nil, chanData(0x4001, "data")), 3, c.router.flow.handed.Load},
		"down":      {write(far, relayedAt, long), 1, c.router.flow.down.packets.Load},
		"down many": {write(far, relayedAt, long), 10, c.router.flow.down.packets.Load},
		"Data":      {write(other, relayedAt, long[:701]), 3, c.router.flow.down.packets.Load},
		"dropped":   {write(clients[0], nil, []byte("garbage")), 1, w.drops[dropShape].Load},
	} {
		t.Run(name, func(t *testing.T) {
			step := func() {
				for range test.times {
					test.write()
				}
				n, _, no := w.wait(false)
				if no != 0 && no != unix.EINTR {
					t.Fatal(no)
				}
				w.now = w.clock()
				w.round(w.events[:min(int(n), len(w.events))])
			}
			before := test.count()
			const runs = 200
			got := testing.AllocsPerRun(runs, step)
			for range 3 { // a round may take less than all
				w.now = w.clock()
				n, _, no := w.wait(false)
				if no == 0 {
					w.round(w.events[:n])
				}
			}
			if got != 0 {
				t.Errorf("%v allocations for %d packets, want 0", got, test.times)
			}
			if n := test.count() - before; n < runs*uint64(test.times)*9/10 {
				t.Errorf("%d packets went this way, want about %d", n, runs*test.times)
			}
		})
	}
}

// BenchmarkPackets is what a worker computes for a packet, without the system calls.
func BenchmarkPackets(b *testing.B) {
	x := cross(b)
	w := x.worker
	far := x.far.LocalAddr().(*net.UDPAddr).AddrPort()
	client, peer, stranger := x.sockets[0].allocation.source.endpoint, endpointOf(far), endpointOf(far)
	stranger.Port++ // a port without a channel
	indication := stun.MustBuild(stun.TransactionID, send, toward(far), raw{stun.AttrData, strings.Repeat("x", 1000)})
	long := chanData(0x4000, strings.Repeat("x", 1000))
	up := func(packet []byte) func([]byte) {
		return func(buffer []byte) {
			n := copy(buffer[wire.DataHeaderSize:], packet)
			x.agreed.hear(peer.Port, nil, w.now) // consent does not end
			w.fromClient(&client, buffer, wire.DataHeaderSize, n, 0)
			w.upward, w.firsts = w.upward[:0], w.firsts[:0]
		}
	}
	down := func(from endpoint) func([]byte) {
		return func(buffer []byte) {
			var d delivery
			if why := w.router.down(x.sockets[0], &from, false, buffer[wire.DataHeaderSize:wire.DataHeaderSize+1000], w.now, &d); why != none {
				b.Fatal(why)
			}
			w.descend(&d, buffer, wire.DataHeaderSize, 1000, wire.DataHeaderSize, 0)
			w.out.n, w.out.iov, w.out.header = 0, 0, 0
		}
	}
	w.now = w.clock()
	for _, way := range []struct {
		name string
		step func(buffer []byte)
	}{
		{"up", up(long)},
		{"Send", up(indication.Raw)},
		{"garbage", up([]byte("garbage"))},
		{"down", down(peer)},
		{"Data", down(stranger)},
	} {
		b.Run(way.name, func(b *testing.B) {
			buffer := make([]byte, 2048)
			b.ReportAllocs()
			for b.Loop() {
				w.now += int64(100 * time.Microsecond) // within all rates
				way.step(buffer)
			}
			for cause := range w.drops {
				if n := w.drops[cause].Load(); n > 0 && cause != int(dropShape) {
					b.Fatalf("%d packets were dropped: %d", n, cause)
				}
			}
		})
	}
}
