package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/internal/relay/wire"
)

// counted waits until there were n panics in what since before.
func counted(t *testing.T, in string, before, n int) {
	t.Helper()
	for deadline := time.Now().Add(long); panics.Count(in)-before < n; {
		if time.Now().After(deadline) {
			t.Fatalf("counted %d panics in %s, want %d", panics.Count(in)-before, in, n)
		}
		<-time.After(time.Millisecond)
	}
}

// A request or packet that panics is lost, and the relay goes on: over UDP, with workers and with the portable carrier, and
// over TCP.
func TestAPanicIsOneMessages(t *testing.T) {
	for name, portable := range map[string]bool{"workers": false, "portable": true} {
		for planted, in := range map[string]string{"where it is admitted": inPacket, "where it is answered": inRequest} {
			t.Run(name+" "+planted, func(t *testing.T) {
				cfg := testConfig()
				cfg.Portable = portable
				s, err := New(bound(t, cfg), slog.New(slog.DiscardHandler), nil)
				if err != nil {
					t.Fatal(err)
				}
				if in == inPacket {
					s.control.admissions.bindings.endpoints = nil
					s.control.admissions.bindings.sources = nil
				} else {
					s.control.answerers = sync.Pool{New: func() any { panic("planted by a test") }}
				}
				run(t, s)
				networks := []string{"udp", "tcp"}
				if in == inPacket {
					networks = networks[:1] // a connection's requests are not counted there
				}
				for _, network := range networks {
					k := talk(t, s, network)
					for range 3 {
						before := panics.Count(in)
						k.write(k.message(stun.BindingRequest).Raw)
						counted(t, in, before, 1)
					}
				}
			})
		}
	}
}

// A connection whose reader panics is hung up on, and its place is free.
func TestAPanicOfAConnectionIsItsOwn(t *testing.T) {
	s, _ := start(t, nil)
	before := panics.Count(inStream)
	client, socket := net.Pipe()
	c := &stream{server: s, conn: nil, socket: socket, begun: time.Now()} // nothing to read from
	c.serve(t.Context())
	if got := panics.Count(inStream) - before; got != 1 {
		t.Errorf("counted %d panics, want 1", got)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stays open")
	}
	k := talk(t, s, "tcp")
	if k.exchange(k.message(stun.BindingRequest)) == nil {
		t.Error("afterwards nobody is answered")
	}
}

// FuzzUDP sends raw datagrams to a relay's workers. Nothing panics, and a request after them is answered.
func FuzzUDP(f *testing.F) {
	cfg := testConfig()
	cfg.ChallengeRate, cfg.ChallengeBurst = 1_000_000, 1_000_000
	s, err := New(bound(f, cfg), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	conn, err := net.Dial("udp", s.Addr().String())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() })
	ask := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	f.Add([]byte("\x40\x00\x00\x04data"))
	f.Add(stun.MustBuild(stun.TransactionID, allocate, udp, stun.Fingerprint).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, send, peer("8.8.8.8:5000"), raw{stun.AttrData, "data"}).Raw)
	for _, frame := range spinning {
		f.Add(frame)
	}
	answer := make([]byte, longestPacket)
	f.Fuzz(func(t *testing.T, datagram []byte) {
		before := panics.Count(inPacket) + panics.Count(inRequest)
		_, _ = conn.Write(datagram) // one that is too long is refused here
		for try := 0; ; try++ {
			if _, err := conn.Write(ask); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			n, err := conn.Read(answer)
			if err == nil && n >= wire.HeaderSize && bytes.Equal(answer[8:wire.HeaderSize], ask[8:wire.HeaderSize]) {
				break
			}
			if err != nil && try == 10 {
				t.Fatalf("no answer after %x", datagram)
			}
		}
		if n := panics.Count(inPacket) + panics.Count(inRequest) - before; n != 0 {
			t.Errorf("%x: %d panics", datagram, n)
		}
	})
}

// FuzzStream plays raw bytes to a TCP or TLS connection of a relay that is told of calls. Nothing panics, and each
// connection ends with what it was sent.
func FuzzStream(f *testing.F) {
	cfg := testConfig()
	cfg.Fed, cfg.CallScoped = true, true
	secureConfig := certificate(f)
	s, err := New(bound(f, cfg), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { runOut(f, s) })
	f.Add([]byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0, 0x40, 0, 0, 0}, false)
	f.Add(stun.MustBuild(stun.TransactionID, allocate, udp, stun.Fingerprint).Raw, false)
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"), true)
	f.Add(append([]byte("\xffvisavis"), make([]byte, 64)...), false)
	for _, frame := range spinning {
		f.Add(frame, false)
	}
	f.Fuzz(func(t *testing.T, sent []byte, secure bool) {
		before := panics.Count(inStream) + panics.Count(inPacket) + panics.Count(inRequest)
		client, socket := net.Pipe()
		c := &stream{server: s, conn: socket, socket: socket, from: source{endpointOf(s.Addr()), overTCP}, begun: time.Now()}
		if secure {
			c.conn, c.from.transport = tls.Server(socket, secureConfig), overTLS
		}
		ended := make(chan struct{})
		go func() { defer close(ended); c.serve(context.Background()) }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_, _ = client.Write(sent) // fails where the server hangs up first
		_ = client.Close()
		<-ended
		s.streaming.Wait()
		if n := panics.Count(inStream) + panics.Count(inPacket) + panics.Count(inRequest) - before; n != 0 {
			t.Errorf("%x: %d panics", sent, n)
		}
	})
}
