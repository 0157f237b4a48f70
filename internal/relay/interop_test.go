package relay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/turn/v5"
)

// certificate is one for localhost, signed by itself.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// carriers are the ways of moving packets, which clients cannot tell from each other.
var carriers = map[string]bool{"batched": false, "portable": true}

func secured(t testing.TB, at string, portable bool) func(*Config) {
	config := certificate(t)
	return func(c *Config) {
		host, _, _ := net.SplitHostPort(at)
		c.Listener, c.Portable = listen(t, at), portable
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &config.Certificates[0], nil }
		c.TLSListener, c.TLSName = listen(t, net.JoinHostPort(host, "0")), "localhost"
		c.UserAllocations, c.BitRate, c.PacketRate = 1000, 1e9, 1e6
	}
}

// dialed is a client's way to the server.
func dialed(t *testing.T, s *Server, network string) (conn net.PacketConn, server string) {
	t.Helper()
	var stream net.Conn
	var err error
	switch server = s.Addr().String(); network {
	case "udp":
		conn, err = net.ListenPacket("udp", net.JoinHostPort(s.Addr().Addr().String(), "0"))
	case "tcp":
		stream, err = net.Dial("tcp", server)
	case "tls":
		server = s.secureAddr().String()
		stream, err = tls.Dial("tcp", server, &tls.Config{InsecureSkipVerify: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	if stream != nil {
		conn = turn.NewSTUNConn(stream)
	}
	return conn, server
}

// Two clients of pion's and a plain socket, all talking with each other.
func TestPionClients(t *testing.T) {
	for carrier, portable := range carriers {
		for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
			for _, network := range []string{"udp", "tcp", "tls"} {
				t.Run(fmt.Sprint(carrier, listen, network), func(t *testing.T) {
					needs(t, listen)
					s, reg := start(t, secured(t, listen, portable))
					a, b := relayedConn(t, s, network, "anna"), relayedConn(t, s, network, "ben")
					plain, err := net.ListenPacket("udp", strings.Replace(listen, ":0", ":0", 1))
					if err != nil {
						t.Fatal(err)
					}
					defer plain.Close()

					// pion's client makes permissions when it sends: the first packet each way opens the way back.
					open := func(from net.PacketConn, to net.Addr) {
						if _, err := from.WriteTo([]byte("open"), to); err != nil {
							t.Fatal(err)
						}
					}
					open(a, b.LocalAddr())
					open(b, a.LocalAddr())
					open(a, plain.LocalAddr())
					for i := range 20 { // Send and Data at first, then ChannelData
						for _, way := range []struct{ from, to net.PacketConn }{{a, b}, {b, a}, {a, plain}, {plain, a}} {
							want := fmt.Sprintf("packet %d%s", i, strings.Repeat(".", i*60))
							if _, err := way.from.WriteTo([]byte(want), way.to.LocalAddr()); err != nil {
								t.Fatal(err)
							}
							// So long that it is lost, not late: a machine with more to do than two processors can may stand
							// still for seconds.
							_ = way.to.SetReadDeadline(time.Now().Add(6 * long))
							got := make([]byte, 2000)
							n, from, err := way.to.ReadFrom(got)
							for err == nil && string(got[:n]) == "open" {
								n, from, err = way.to.ReadFrom(got)
							}
							if err != nil || string(got[:n]) != want || from.String() != way.from.LocalAddr().String() {
								flow := &s.metrics.flow
								t.Fatalf("got %q from %v, %v, want %q from %v; dropped: %v; relayed %d up, %d down, %d of them handed over", got[:n], from, err, want,
									way.from.LocalAddr(), dropped(s), flow.up.packets.Load(), flow.down.packets.Load(), flow.handed.Load())
							}
						}
					}
					if got := metric(t, reg, "allocations"); got != 2 {
						t.Errorf("allocations = %v, want 2", got)
					}
					if up, down := metric(t, reg, "packets_total", "up"), metric(t, reg, "packets_total", "down"); up < 60 || down < 60 {
						t.Errorf("packets = %v up, %v down, want at least 60", up, down)
					}
					if got := metric(t, reg, "handed_packets_total"); got < 40 {
						t.Errorf("%v packets are handed over, want at least 40", got)
					}
					_ = a.Close()
					eventually(t, reg, 1, "allocations")
				})
			}
		}
	}
}

func TestSecureURL(t *testing.T) {
	s, _ := start(t, secured(t, "127.0.0.1:0", false))
	want := fmt.Sprintf("turns:localhost:%d?transport=tcp", s.secureAddr().Port())
	if urls := s.URLs(); len(urls) != 4 || urls[3] != want {
		t.Errorf("URLs = %v, want %s at the end", urls, want)
	}
}

// tool finds one of coturn's. Without it the test is skipped, but never in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lacks(t, err)
	}
	return path
}

// echo sends back what it is sent.
func echo(t *testing.T, host string) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		b := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(b[:n], from)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

var received = regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`)

func TestCoturnClients(t *testing.T) {
	path := tool(t, "turnutils_uclient")
	const clients, messages = 4, 5
	var running sync.WaitGroup // the clients do little but wait
	defer running.Wait()
	for carrier, portable := range carriers {
		for name, test := range map[string]struct {
			listen, flags string
			secure        bool
		}{
			"channels":         {"127.0.0.1:0", "", false},
			"Send":             {"127.0.0.1:0", "-s", false},
			"client to client": {"127.0.0.1:0", "-y", false},
			"do not fragment":  {"127.0.0.1:0", "-g", false},
			"TCP":              {"127.0.0.1:0", "-t", false},
			"TCP, Send":        {"127.0.0.1:0", "-t -s", false},
			// It takes one frame from each TLS record, and we send what there is in one: so it must not be much.
			"TLS":                {"127.0.0.1:0", "-t -S -z 200", true},
			"IPv6":               {"[::1]:0", "-x", false},
			"IPv6, Send, TCP":    {"[::1]:0", "-x -t -s", false},
			"large packets":      {"127.0.0.1:0", "-l 1300", false},
			"odd sizes and Send": {"127.0.0.1:0", "-l 333 -s", false},
		} {
			needs(t, test.listen)
			s, _ := start(t, secured(t, test.listen, portable))
			at := s.Addr()
			if test.secure {
				at = s.secureAddr()
			}
			other := echo(t, at.Addr().String())
			credentials := Issue(secret, "anna", "", "", time.Now(), time.Hour)
			args := []string{
				"-u", credentials.Username, "-w", credentials.Password, "-p", strconv.Itoa(int(at.Port())), "-c",
				"-n", strconv.Itoa(messages), "-m", strconv.Itoa(clients),
			}
			if !strings.Contains(test.flags, "-y") {
				args = append(args, "-e", other.Addr().String(), "-r", strconv.Itoa(int(other.Port())))
			}
			if !strings.Contains(test.flags, "-l") {
				args = append(args, "-l", "170")
			}
			args = append(append(args, strings.Fields(test.flags)...), at.Addr().String())
			running.Go(func() {
				// A client that sends before the other one has its permission loses that packet: on a busy machine it does.
				var problem string
				for range 3 {
					if problem = uclient(t.Context(), path, args, clients*messages); problem == "" {
						return
					}
				}
				t.Errorf("%s, %s: %s", carrier, name, problem)
			})
		}
	}
}

// uclient says what went wrong, if anything did.
func uclient(ctx context.Context, path string, args []string, want int) (problem string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	all := received.FindAllSubmatch(out, -1)
	if err != nil || all == nil {
		return fmt.Sprintf("%v: %v\n%s", args, err, out)
	}
	last := all[len(all)-1]
	if !bytes.Equal(last[1], last[2]) || string(last[1]) != strconv.Itoa(want) {
		return fmt.Sprintf("%s sent, %s received, want %d of both\n%s", last[1], last[2], want, out)
	}
	return ""
}

func TestCoturnSTUNClient(t *testing.T) {
	path := tool(t, "turnutils_stunclient")
	s, _ := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-p", strconv.Itoa(int(s.Addr().Port())), s.Addr().Addr().String()).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("UDP reflexive addr: 127.0.0.1:")) {
		t.Errorf("%v\n%s", err, out)
	}
}
