package relay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/relay/wire"
)

// udpPair is a client with an allocation and a channel to a plain socket.
func udpPair(t *testing.T, s *Server) (k *talker, far *net.UDPConn, relayed netip.AddrPort) {
	t.Helper()
	far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	k = talk(t, s, "udp")
	relayed = k.allocate()
	k.want(0, stun.MethodChannelBind, channel(0x4000), peer(far.LocalAddr().String()))
	return k, far, relayed
}

func chanData(number uint16, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

// sendTrain sends packets of one size in one piece, as GSO does, with ECN bits.
func sendTrain(t *testing.T, conn *net.UDPConn, to *net.UDPAddr, packets []string, ecn byte) {
	t.Helper()
	control := make([]byte, unix.CmsgSpace(2)+unix.CmsgSpace(4))
	first, rest := control[:unix.CmsgSpace(2)], control[unix.CmsgSpace(2):]
	cmsg(first, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
	binary.NativeEndian.PutUint16(first[unix.CmsgLen(0):], uint16(len(packets[0])))
	cmsg(rest, unix.SOL_IP, unix.IP_TOS, 4)
	binary.NativeEndian.PutUint32(rest[unix.CmsgLen(0):], uint32(ecn))
	if _, _, err := conn.WriteMsgUDP([]byte(strings.Join(packets, "")), control, to); err != nil {
		t.Fatal(err)
	}
}

func cmsg(b []byte, level, kind int32, n int) {
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(n)))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(kind))
}

// receiveECN reads one packet and its ECN bits.
func receiveECN(t *testing.T, conn *net.UDPConn) (string, byte) {
	t.Helper()
	b, control := make([]byte, 70_000), make([]byte, 100)
	_ = conn.SetReadDeadline(time.Now().Add(long))
	n, cn, _, _, err := conn.ReadMsgUDP(b, control)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:cn])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_TOS {
			return string(b[:n]), m.Data[0] & 3
		}
	}
	return string(b[:n]), 0xff
}

func option(t *testing.T, conn *net.UDPConn, level, name, value int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Trains of packets arrive in one piece, and go on in one, and are the same packets at the end.
func TestTrains(t *testing.T) {
	s, reg := start(t, func(c *Config) { c.BitRate, c.PacketRate = 1e9, 1e6 })
	k, far, relayed := udpPair(t, s)
	client := k.Conn.(*net.UDPConn)
	option(t, far, unix.SOL_IP, unix.IP_RECVTOS, 1)
	option(t, client, unix.SOL_IP, unix.IP_RECVTOS, 1)
	packets := func(n, last int, frame func(string) string) (list, payloads []string) {
		for i := range n {
			p := strings.Repeat(string(rune('a'+i%26)), 900)
			if i == n-1 {
				p = p[:last]
			}
			list, payloads = append(list, frame(p)), append(payloads, p)
		}
		return list, payloads
	}
	for _, ecn := range []byte{0, 1, 2, 3} {
		for _, last := range []int{900, 100} {
			list, want := packets(40, last, func(p string) string { return string(chanData(0x4000, p)) })
			sendTrain(t, client, nil, list, ecn)
			for i := range want {
				if got, e := receiveECN(t, far); got != want[i] || e != ecn {
					t.Fatalf("up, packet %d: %d bytes, ECN %d, want %d bytes, ECN %d", i, len(got), e, len(want[i]), ecn)
				}
			}
			list, _ = packets(40, last, func(p string) string { return p })
			sendTrain(t, far, net.UDPAddrFromAddrPort(relayed), list, ecn)
			for i := range want {
				if got, e := receiveECN(t, client); got != string(chanData(0x4000, want[i])) || e != ecn {
					t.Fatalf("down, packet %d: %d bytes, ECN %d, want %d bytes, ECN %d", i, len(got), e, 4+len(want[i]), ecn)
				}
			}
		}
	}
	if got := metric(t, reg, "grouped_packets_total"); got < 300 {
		t.Errorf("%v packets are sent in groups, want most of 640", got)
	}
}

// What a device that cannot cut segments would do to us: packets one by one, and no further try.
func TestWithoutSegments(t *testing.T) {
	for _, refusal := range []string{"remembered", "now"} {
		t.Run(refusal, func(t *testing.T) {
			fd, _, err := bindUDP(netip.MustParseAddrPort("127.0.0.1:0"), false, relayBuffer)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if refusal == "now" {
				// The kernel cuts nothing on a socket that sends no checksums: EINVAL or EIO.
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
					t.Fatal(err)
				}
			}
			far, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			m := newMetrics()
			o := newSendBatch(64, false, newLocals(), &gso{off: refusal == "remembered"}, &m.flow, &m.drops)
			to := endpointOf(far.LocalAddr().(*net.UDPAddr).AddrPort())
			b := make([]byte, wire.DataHeaderSize+1000)
			d := delivery{to: &allocation{source: source{to, overUDP}}, peer: to}
			for range 2 {
				for n := range 10 {
					o.addFramed(&d, b, wire.DataHeaderSize, 501, 0, 0) // header, payload, padding
					if n == 9 {
						o.addFramed(&d, b, wire.DataHeaderSize, 101, 0, 0)
					}
				}
				o.flush(fd)
				for i := range 11 {
					want := 36 + 504
					if i == 10 {
						want = 36 + 104
					}
					_ = far.SetReadDeadline(time.Now().Add(long))
					got := make([]byte, 2000)
					n, err := far.Read(got)
					if err != nil || n != want || !wire.IsSTUN(got[:n]) {
						t.Fatalf("packet %d has %d bytes, %v, want %d", i, n, err, want)
					}
				}
			}
			if !o.gso.off {
				t.Error("the refusal is not remembered")
			}
			if got := m.flow.grouped.Load(); got != 0 {
				t.Errorf("%d packets in groups, want none", got)
			}
		})
	}
}

// Packets that wait for others arrive all the same, in fewer messages.
func TestCoalesce(t *testing.T) {
	s, reg := start(t, func(c *Config) { c.Coalesce, c.BitRate, c.PacketRate = 2*time.Millisecond, 1e9, 1e6 })
	k, far, relayed := udpPair(t, s)
	const packets = 100
	got := make(chan int)
	go func() {
		n, b := 0, make([]byte, 2000)
		for ; n < packets; n++ {
			_ = far.SetReadDeadline(time.Now().Add(long))
			if _, _, err := far.ReadFromUDPAddrPort(b); err != nil {
				break
			}
		}
		got <- n
	}()
	for range packets {
		k.write(chanData(0x4000, strings.Repeat("x", 500)))
	}
	if n := <-got; n != packets {
		t.Errorf("%d packets arrive, want %d", n, packets)
	}
	if _, err := far.WriteToUDPAddrPort([]byte("down"), relayed); err != nil {
		t.Fatal(err)
	}
	if got := k.read(long); string(got) != string(chanData(0x4000, "down")) {
		t.Errorf("got %x", got)
	}
	if got := metric(t, reg, "grouped_packets_total"); got < packets/2 {
		t.Errorf("%v of %d packets are sent in groups, want most", got, packets)
	}
}

// A worker that has fallen behind does not wait for still more.
func TestCoalesceWhenBehind(t *testing.T) {
	s, err := New(Config{Listener: listen(t, "127.0.0.1:0"), Secrets: [][]byte{secret}, Coalesce: time.Millisecond}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer runOut(t, s)
	w := s.carrier.(*batchedCarrier).workers[0]
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range fromClients + 1 {
		if _, err := conn.Write([]byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	n, _, no := w.wait(false)
	if no != 0 || n != 1 {
		t.Fatalf("%d sockets can be read, %v, want 1", n, no)
	}
	w.round(w.events[:n])
	if w.gathers() {
		t.Error("it waits while there is more to read")
	}
	w.readOn()
	if !w.gathers() {
		t.Error("it does not wait when nothing is left")
	}
	if got := w.drops[dropShape].Load(); got != fromClients+1 {
		t.Errorf("%d packets are read, want %d", got, fromClients+1)
	}
}

// What the kernel dropped before we could read it is told, too.
func TestOverflow(t *testing.T) {
	s, err := New(Config{Listener: listen(t, "127.0.0.1:0"), Secrets: [][]byte{secret}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer runOut(t, s)
	b := s.carrier.(*batchedCarrier)
	a := &allocation{holder: new(holder), origin: new(origin)}
	rs, no := s.control.bind(a, 4, false)
	if no != nil {
		t.Fatal(no)
	}
	flood := func(fd int, to netip.AddrPort) uint64 {
		t.Helper()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 10_000); err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		const sent = 200
		for range sent {
			if _, err := conn.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		waiting := 0
		for b := make([]byte, 2000); ; waiting++ {
			if _, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT); err != nil {
				break
			}
		}
		if waiting == 0 || waiting == sent {
			t.Fatalf("%d of %d packets are left, want some", waiting, sent)
		}
		return uint64(sent - waiting)
	}
	drops := &s.metrics.drops[dropOverflow]

	want := flood(b.workers[0].fd, s.Addr())
	b.serving = true // nobody reads all the same
	for range 2 {
		b.tend(1)
		if got := drops.Load(); got != want {
			t.Fatalf("%d packets of clients are told to be lost, want %d", got, want)
		}
	}
	b.serving = false
	want += flood(rs.fd.number, rs.relayed.AddrPort())
	b.close(rs)
	if got := drops.Load(); got != want {
		t.Fatalf("%d packets are told to be lost, want %d", got, want)
	}
}

// A further worker takes over its part, and one that rests gives it back, while packets flow; none is lost.
func TestDivide(t *testing.T) {
	s, reg := start(t, func(c *Config) { c.Workers, c.PacketRate, c.UserAllocations = 4, 1e6, 100 })
	b := s.carrier.(*batchedCarrier)
	type pair struct {
		k       *talker
		far     *net.UDPConn
		relayed netip.AddrPort
	}
	var pairs []pair
	add := func(n int) {
		for range n {
			k, far, relayed := udpPair(t, s)
			pairs = append(pairs, pair{k, far, relayed})
		}
	}
	try := func() {
		t.Helper()
		for _, p := range pairs {
			p.k.write(chanData(0x4000, "up"))
			got := make([]byte, 100)
			_ = p.far.SetReadDeadline(time.Now().Add(long))
			n, from, err := p.far.ReadFromUDPAddrPort(got)
			if err != nil || string(got[:n]) != "up" || from != p.relayed {
				t.Fatalf("got %q from %v, %v", got[:n], from, err)
			}
			if _, err := p.far.WriteToUDPAddrPort([]byte("down"), from); err != nil {
				t.Fatal(err)
			}
			if got := p.k.read(long); string(got) != string(chanData(0x4000, "down")) {
				t.Fatalf("got %x", got)
			}
		}
	}
	add(4)
	try()
	for _, workers := range []int{2, 3, 4, 3, 2, 1, 2, 3} {
		s.control.mu.Lock()
		var err error
		if workers > b.active {
			err = b.grow()
		} else {
			err = b.divide(workers)
		}
		got := b.active
		s.control.mu.Unlock()
		if err != nil || got != workers {
			t.Fatalf("%d workers, %v, want %d", got, err, workers)
		}
		try()
	}
	if got := len(b.load()); got != 4 {
		t.Errorf("%d workers were made, want 4: those that rest go on", got)
	}
	for range pairs {
		pairs[0].k.want(0, stun.MethodRefresh, raw{stun.AttrLifetime, "\x00\x00\x00\x00"})
		pairs = pairs[1:]
	}
	for range 3 {
		add(4)
		try()
		for _, p := range pairs {
			p.k.want(0, stun.MethodRefresh, raw{stun.AttrLifetime, "\x00\x00\x00\x00"})
		}
		pairs = nil
	}
	if got := metric(t, reg, "allocations"); got != 0 {
		t.Errorf("allocations = %v, want 0", got)
	}
}

// Three seconds of work make a second worker, less or fewer do not; after three seconds with little it rests.
func TestGrowWhenFull(t *testing.T) {
	s, _ := start(t, func(c *Config) { c.Workers = 2 })
	b := s.carrier.(*batchedCarrier)
	talk(t, s, "udp").allocate() // it serves
	second := func(load float64) int {
		s.control.mu.Lock()
		defer s.control.mu.Unlock()
		for _, w := range b.workers {
			w.seen = w.busy.Load() - int64(load*float64(time.Second))
		}
		b.tend(1)
		return b.active
	}
	for i, step := range []struct {
		load float64 // of each worker
		want int
	}{
		{0.8, 1}, {0.8, 1}, {0.5, 1}, {0.8, 1}, {0.8, 1}, {0.8, 2}, // full
		{1, 2}, {1, 2}, {1, 2}, {1, 2}, // there may not be more
		{0.4, 2}, {0.4, 2}, {0.4, 2}, {0.4, 2}, // too much for one
		{0.2, 2}, {0.2, 2}, {0.4, 2}, {0.2, 2}, {0.2, 2}, {0.2, 1}, // little
		{0.5, 1}, {0.8, 1}, {0.8, 1}, {0.8, 2}, {0.8, 2},
	} {
		if got := second(step.load); got != step.want {
			t.Fatalf("%d workers after second %d, want %d", got, i, step.want)
		}
	}
	if got := b.load(); len(got) != 2 || got[0] < 0.7 || got[1] < 0.7 {
		t.Errorf("load = %v, want that of both", got)
	}
}

// Clients are divided up by their port, on all sockets that share ours.
func TestSteer(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		needs(t, at)
		const n = 3
		var fds []int
		address := netip.MustParseAddrPort(at)
		for range n {
			fd, _, err := bindUDP(address, true, clientBuffer)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			fds = append(fds, fd)
			bound, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			switch bound := bound.(type) {
			case *unix.SockaddrInet4:
				address = netip.AddrPortFrom(address.Addr(), uint16(bound.Port))
			case *unix.SockaddrInet6:
				address = netip.AddrPortFrom(address.Addr(), uint16(bound.Port))
			}
		}
		for _, workers := range []int{1, 2, 3} {
			if err := steer(fds[0], workers); err != nil {
				t.Fatal(err)
			}
			for range 12 {
				conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
				if err != nil {
					t.Fatal(err)
				}
				port := conn.LocalAddr().(*net.UDPAddr).Port
				if _, err := conn.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				for i, fd := range fds {
					_, _, err := unix.Recvfrom(fd, make([]byte, 10), unix.MSG_DONTWAIT)
					if got, want := err == nil, i == port%workers; got != want {
						t.Errorf("%s, port %d, %d workers: socket %d received: %v, want %v", at, port, workers, i, got, want)
					}
				}
			}
		}
	}
}

// A flood from one port does not fill the queue, in which others' requests stand too.
func TestFloodLeavesRoomInTheQueue(t *testing.T) {
	const flood = 2000
	s, _ := start(t, withDefaultLimits)
	user := talk(t, s, "udp")
	user.allocate()
	s.control.mu.Lock() // the request of the user waits for it, and all that is queued waits behind that
	locked := true
	defer func() {
		if locked {
			s.control.mu.Unlock()
		}
	}()
	key := stun.NewLongTermIntegrity(user.credentials.Username, string(user.realm), user.credentials.Password)
	user.write(user.message(stun.NewType(stun.MethodRefresh, stun.ClassRequest),
		stun.NewUsername(user.credentials.Username), user.realm, user.nonce, key).Raw)
	flooder, newcomer := talk(t, s, "udp"), talk(t, s, "udp")
	binding := flooder.message(stun.BindingRequest).Raw
	sum := func() (n uint64) {
		for _, count := range dropped(s) {
			n += count
		}
		return n
	}
	before := sum()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range flood {
		flooder.write(binding)
		if i%100 == 0 {
			<-tick.C // or the socket overflows
		}
	}
	for deadline := time.Now().Add(long); sum()-before < flood-requestQueue && time.Now().Before(deadline); <-tick.C {
	}
	newcomer.write(newcomer.message(allocate, udp).Raw)
	busy := func() uint64 { return s.metrics.drops[dropBusy].Load() }
	s.control.mu.Unlock()
	locked = false
	if newcomer.read(long) == nil {
		t.Errorf("a newcomer is not answered; dropped: %v", dropped(s))
	}
	if busy() > 0 {
		t.Errorf("%d requests found the queue full, want none", busy())
	}
}
