package relay

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"
)

// insideVariable is set in the process that has a network namespace of its own.
const insideVariable = "VISAVIS_RELAY_PATHS"

// A server with two addresses of each family, a router, and a client behind a link on which no more than 1280 bytes fit.
const pathsNetwork = `set -e
mount -t tmpfs netns /run/netns
ip link set lo up
ip netns add router
ip netns add client
ip link add server type veth peer name near netns router
ip -n router link add far type veth peer name client netns client
ip addr add 10.77.1.1/24 dev server
ip addr add 10.77.1.2/24 dev server
ip addr add fd77:1::1/64 dev server nodad
ip addr add fd77:1::2/64 dev server nodad
ip -n router addr add 10.77.1.9/24 dev near
ip -n router addr add fd77:1::9/64 dev near nodad
ip -n router addr add 10.77.2.9/24 dev far
ip -n router addr add fd77:2::9/64 dev far nodad
ip -n client addr add 10.77.2.1/24 dev client
ip -n client addr add fd77:2::1/64 dev client nodad
ip -n router link set far mtu 1280
ip -n client link set client mtu 1280
ip link set server up
ip -n router link set near up
ip -n router link set far up
ip -n client link set client up
ip route add default via 10.77.1.9
ip -6 route add default via fd77:1::9
ip -n client route add default via 10.77.2.9
ip -n client -6 route add default via fd77:2::9
ip netns exec router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'`

// TestPaths runs the tests below in a network of their own.
func TestPaths(t *testing.T) {
	if os.Getenv(insideVariable) != "" {
		t.Run("answers leave from the address that was asked", testAnswersFrom)
		t.Run("packets longer than the path", testLongPackets)
		return
	}
	if os.Geteuid() != 0 {
		lacks(t, errors.New("network namespaces need root"))
	}
	for _, command := range []string{"unshare", "ip"} {
		tool(t, command)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		lacks(t, err)
	}
	cmd := exec.Command("unshare", "--net", "--mount", "--", "sh", "-c", pathsNetwork+"\nexec \"$@\"", "sh",
		os.Args[0], "-test.run=^TestPaths$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestPaths/")) {
		t.Errorf("nothing was tested:\n%s", out)
	}
}

// inClient calls f, which opens sockets, in the client's namespace.
func inClient(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	enter := func(path string) int {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	home, there := enter("/proc/thread-self/ns/net"), enter("/run/netns/client")
	defer unix.Close(home)
	defer unix.Close(there)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// startOnAll is a relay on all addresses, with relayed addresses on the first of each family.
func startOnAll(t *testing.T, portable bool) *Server {
	s, _ := start(t, func(c *Config) {
		c.Listener, c.Portable = listen(t, "[::]:0"), portable
		c.Address, c.OtherAddress = netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")
		c.Allow = prefixes("10.77.0.0/16", "fd77::/16")
	})
	return s
}

// clientOf is a talker in the client's namespace that has had an answer. A connected socket hears its server's address only.
func clientOf(t *testing.T, s *Server, server, user string) *talker {
	k := &talker{t: t, credentials: Issue(secret, user, "", "", time.Now(), time.Hour)}
	inClient(t, func() {
		conn, err := net.Dial("udp", net.JoinHostPort(server, fmt.Sprint(s.Addr().Port())))
		if err != nil {
			t.Fatal(err)
		}
		k.Conn = conn
	})
	t.Cleanup(func() { _ = k.Close() })
	for deadline := time.Now().Add(long); ; { // the hosts may not know each other yet
		k.write(k.message(stun.BindingRequest).Raw)
		if k.read(200*time.Millisecond) != nil {
			for k.read(20*time.Millisecond) != nil { // what was asked twice
			}
			return k
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer from %s", server)
		}
	}
}

func testAnswersFrom(t *testing.T) {
	for carrier, portable := range carriers {
		s := startOnAll(t, portable)
		for i, server := range []string{"10.77.1.1", "10.77.1.2", "fd77:1::1", "fd77:1::2"} {
			t.Run(carrier+" "+server, func(t *testing.T) {
				k := clientOf(t, s, server, fmt.Sprint("anna", i))
				k.allocate() // answers
				peer, err := net.ListenPacket("udp", "10.77.1.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer peer.Close()
				k.want(0, stun.MethodChannelBind, channel(0x4000), toward(peer.LocalAddr().(*net.UDPAddr).AddrPort()))
				k.write([]byte("\x40\x00\x00\x04ping"))
				_ = peer.SetReadDeadline(time.Now().Add(long))
				b := make([]byte, 100)
				n, from, err := peer.ReadFrom(b)
				if err != nil || string(b[:n]) != "ping" {
					t.Fatalf("got %q, %v, want ping", b[:n], err)
				}
				for range 3 { // one by one, and what is gathered
					_, _ = peer.WriteTo([]byte("pong"), from)
				}
				for range 3 {
					if got := k.read(long); string(got) != "\x40\x00\x00\x04pong" {
						t.Fatalf("got %q, want pong", got)
					}
				}
			})
		}
	}
}

// What is longer than the path takes is fragmented, by routers (IPv4) or, once they have said so, by us (IPv6), unless the
// client wants it whole.
func testLongPackets(t *testing.T) {
	for carrier, portable := range carriers {
		s := startOnAll(t, portable)
		for _, v := range []struct{ server, client string }{{"10.77.1.1", "10.77.2.1"}, {"fd77:1::1", "fd77:2::1"}} {
			t.Run(carrier+" "+v.server, func(t *testing.T) {
				k := clientOf(t, s, v.server, "anna"+v.server)
				family := raw{stun.AttrRequestedAddressFamily, "\x01\x00\x00\x00"}
				if strings.Contains(v.server, ":") {
					family = raw{stun.AttrRequestedAddressFamily, "\x02\x00\x00\x00"}
				}
				k.want(0, stun.MethodAllocate, udp, family)
				var peer net.PacketConn
				inClient(t, func() {
					var err error
					if peer, err = net.ListenPacket("udp", net.JoinHostPort(v.client, "0")); err != nil {
						t.Fatal(err)
					}
				})
				defer peer.Close()
				at := toward(peer.LocalAddr().(*net.UDPAddr).AddrPort())
				k.want(0, stun.MethodChannelBind, channel(0x4000), at)
				long1400 := bytes.Repeat([]byte("long"), 350)
				framed := append([]byte{0x40, 0, 1400 >> 8, 1400 & 0xff}, long1400...)

				// To the peer, and back to the client. The first of each is what teaches an IPv6 sender.
				b := make([]byte, 2000)
				var relayed net.Addr
				for tries := 1; ; tries++ {
					k.write(framed)
					_ = peer.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
					n, from, err := peer.ReadFrom(b)
					if err == nil && bytes.Equal(b[:n], long1400) {
						relayed = from
						break
					}
					if tries == 20 {
						t.Fatalf("the peer gets nothing of 1400 bytes: %v; dropped: %v", err, dropped(s))
					}
				}
				for tries := 1; ; tries++ {
					_, _ = peer.WriteTo(long1400, relayed)
					if got := k.read(200 * time.Millisecond); bytes.Equal(got, framed) {
						break
					}
					if tries == 20 {
						t.Fatalf("the client gets nothing of 1400 bytes; dropped: %v", dropped(s))
					}
				}

				// Several at once, which would be segments of one message on a wider path.
				for k.read(50*time.Millisecond) != nil { // what was sent twice
				}
				for range 8 {
					_, _ = peer.WriteTo(long1400, relayed)
				}
				for i := range 8 {
					if got := k.read(long); !bytes.Equal(got, framed) {
						t.Fatalf("packet %d of 8 at once: got %d bytes, want 1404; dropped: %v", i, len(got), dropped(s))
					}
				}

				// DONT-FRAGMENT: it does not arrive, what follows does.
				_ = peer.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				for { // what was sent twice
					if _, _, err := peer.ReadFrom(b); err != nil {
						break
					}
				}
				k.write(k.message(send, at, raw{stun.AttrData, string(long1400)}, raw{stun.AttrDontFragment, ""}).Raw)
				k.write(k.message(send, at, raw{stun.AttrData, "short"}, raw{stun.AttrDontFragment, ""}).Raw)
				_ = peer.SetReadDeadline(time.Now().Add(long))
				if n, _, err := peer.ReadFrom(b); err != nil || string(b[:n]) != "short" {
					t.Errorf("got %d bytes, %v, want what is short: the other one must not be fragmented", n, err)
				}
			})
		}
	}
}
