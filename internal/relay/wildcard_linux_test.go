package relay

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/relay/wire"
)

// echoer takes packets of one client in batches and sends them back, as a worker does on the clients' socket.
type echoer struct {
	fd     int
	in     *receiveBatch
	out    *sendBatch
	client *net.UDPConn
	took   []time.Duration // CPU time of each batch
}

const mostEchoed = 16

func newEchoer(b *testing.B, at string) *echoer {
	b.Helper()
	fd, v6, err := bindUDP(netip.MustParseAddrPort(at), true, clientBuffer)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	in, err := newReceiveBatch(mostEchoed, false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(in.free)
	name, err := unix.Getsockname(fd)
	if err != nil {
		b.Fatal(err)
	}
	port := 0
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		port = name.Port
	case *unix.SockaddrInet6:
		port = name.Port
	}
	client, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return &echoer{fd: fd, in: in, out: newSendBatch(mostEchoed, v6, newLocals(), new(gso), new(flow), new(drops)), client: client}
}

func (e *echoer) batch(b *testing.B, packets int, payload []byte) {
	for range packets {
		if _, err := e.client.Write(payload); err != nil {
			b.Fatal(err)
		}
	}
	begun := threadTime()
	e.in.reset(packets)
	n, no := e.in.receive(e.fd, 0, packets)
	var local [16]byte
	for i := range n {
		length, _, ecn, _ := e.in.cut(i, &local)
		var from endpoint
		e.in.names[i].take(&from)
		from.local = e.out.locals.number(&local)
		train := e.out.begin(&from, length, ecn)
		train.complete = true // a message each, as to clients that are not the same
		e.out.piece(train, e.in.buffer(i)[wire.DataHeaderSize:][:length])
	}
	e.out.flush(e.fd)
	e.took = append(e.took, threadTime()-begun)
	if n != packets {
		b.Fatalf("got %d packets, %v, want %d", n, no, packets)
	}
	for range packets {
		if _, err := e.client.Read(payload); err != nil {
			b.Fatal(err)
		}
	}
}

func threadTime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return time.Duration(now.Nano())
}

// BenchmarkWildcard is what a packet costs that is received and answered on one address and on all of them, where the
// kernel tells the address with each packet. The three take turns; what is told is the median of each.
func BenchmarkWildcard(b *testing.B) {
	for _, packets := range []int{1, 4, mostEchoed} {
		b.Run(fmt.Sprint(packets, " at once"), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ways := []string{"127.0.0.1", "0.0.0.0", "[::]"}
			var echoes []*echoer
			for _, way := range ways {
				echoes = append(echoes, newEchoer(b, way+":0"))
			}
			payload := make([]byte, 1000)
			for b.Loop() {
				for _, e := range echoes {
					e.batch(b, packets, payload)
				}
			}
			for i, e := range echoes {
				slices.Sort(e.took)
				b.ReportMetric(float64(e.took[len(e.took)/2].Nanoseconds())/float64(packets), "ns/packet-"+ways[i])
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
