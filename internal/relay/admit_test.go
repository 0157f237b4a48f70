package relay

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

// withDefaultLimits has the limits of requests as they come, which other tests raise.
func withDefaultLimits(c *Config) { c.ChallengeRate, c.ChallengeBurst, c.SourceRequests = 0, 0, 0 }

// A hundred browsers behind one address gather at the same moment, and each has its relayed address.
func TestManyClientsOfOneAddress(t *testing.T) {
	const browsers = 100
	for carrier, portable := range carriers {
		for _, network := range []string{"udp", "tcp", "tls"} {
			t.Run(carrier+" "+network, func(t *testing.T) {
				s, _ := start(t, func(c *Config) {
					withDefaultLimits(c)
					c.Portable = portable
					secured(t, "127.0.0.1:0", false)(c)
				})
				took := make([]time.Duration, browsers)
				errs := make([]error, browsers)
				begin := make(chan struct{})
				var all sync.WaitGroup
				for i := range browsers {
					conn, err := dialRelay(s, network)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					all.Go(func() {
						<-begin
						started := time.Now()
						errs[i] = gather(conn, network == "udp", Issue(secret, fmt.Sprint(i), "", "", time.Now(), time.Hour))
						took[i] = time.Since(started)
					})
				}
				close(begin)
				all.Wait()
				failed := 0
				for _, err := range errs {
					if err != nil {
						failed++
						t.Log(err)
					}
				}
				slices.Sort(took)
				t.Logf("p50 %v, last %v; dropped: %v", took[browsers/2], took[browsers-1], dropped(s))
				if failed > 0 {
					t.Errorf("%d of %d browsers have no relayed address", failed, browsers)
				}
			})
		}
	}
}

func dialRelay(s *Server, network string) (net.Conn, error) {
	if network == "tls" {
		return tls.Dial("tcp", s.secureAddr().String(), &tls.Config{InsecureSkipVerify: true})
	}
	return net.Dial(network, s.Addr().String())
}

// gather does what a browser does on one socket: a Binding, an Allocate without a proof, one with it, a permission.
// Over UDP it sends again after 500 ms, and so on (RFC 8489 §6.2.1).
func gather(conn net.Conn, again bool, credentials Credentials) error {
	exchange := func(attributes ...stun.Setter) (*stun.Message, error) {
		request := stun.MustBuild(append([]stun.Setter{stun.TransactionID}, attributes...)...)
		b := make([]byte, 2000)
		wait := long
		if again {
			wait = 500 * time.Millisecond
		}
		for ; wait <= long; wait *= 2 {
			if _, err := conn.Write(request.Raw); err != nil {
				return nil, err
			}
			_ = conn.SetReadDeadline(time.Now().Add(wait))
			var n int
			var err error
			if again {
				n, err = conn.Read(b)
			} else {
				n, err = wire.ReadFrame(conn, b)
			}
			response := &stun.Message{Raw: b[:n]}
			switch {
			case isTimeout(err):
				continue
			case err != nil:
				return nil, err
			}
			return response, response.Decode()
		}
		return nil, fmt.Errorf("%s: no answer", request.Type)
	}
	if _, err := exchange(stun.BindingRequest); err != nil {
		return err
	}
	challenge, err := exchange(allocate, udp)
	if err != nil {
		return err
	}
	var realm stun.Realm
	var nonce stun.Nonce
	if err := challenge.Parse(&realm, &nonce); err != nil {
		return err
	}
	key := stun.NewLongTermIntegrity(credentials.Username, string(realm), credentials.Password)
	sign := []stun.Setter{stun.NewUsername(credentials.Username), realm, nonce, key}
	for _, request := range [][]stun.Setter{
		{allocate, udp},
		{stun.NewType(stun.MethodCreatePermission, stun.ClassRequest), peer("127.0.0.1:5000")},
	} {
		response, err := exchange(append(request, sign...)...)
		switch {
		case err != nil:
			return err
		case response.Type.Class != stun.ClassSuccessResponse:
			return fmt.Errorf("%s is refused", response.Type.Method)
		}
	}
	return nil
}

// Packets with somebody's address that somebody else has sent take nothing from them.
func TestForgedRequestsHurtNobody(t *testing.T) {
	const perSecond = 300 // 60 were enough once
	d := newTestControl(t, withDefaultLimits)
	user := d.client("9.9.9.9:1000", "anna", "", "")
	user.want(0, stun.MethodAllocate, udp)
	forged := []*stun.Message{
		stun.MustBuild(stun.TransactionID, stun.BindingRequest),
		stun.MustBuild(stun.TransactionID, allocate, udp),
		stun.MustBuild(stun.TransactionID, allocate, udp, stun.NewUsername("x"), stun.NewRealm("visavis"),
			stun.NewNonce("x"), stun.NewShortTermIntegrity("x")),
	}
	for second := range 30 {
		d.now = d.now.Add(time.Second)
		for i := range perSecond {
			at := source{endpointOf(netip.AddrPortFrom(netip.MustParseAddr("9.9.9.9"), uint16(2000+97*i+second))), overUDP}
			for _, m := range forged {
				d.response(m.Raw, at)
			}
		}
		user.nonce = nil // has to be challenged anew
		user.want(0, stun.MethodRefresh)
		newcomer := d.client(fmt.Sprintf("9.9.9.9:%d", 1001+second), fmt.Sprint(second), "", "")
		if newcomer.tell(stun.MustBuild(stun.TransactionID, stun.BindingRequest)) == nil {
			t.Fatalf("second %d: the Binding of a newcomer is not answered", second)
		}
		newcomer.want(0, stun.MethodAllocate, udp)
	}
}

// A client with an allocation is answered even while its source is beyond its bound.
func TestClientsAreExemptFromTheBoundOfTheirSource(t *testing.T) {
	d := newTestControl(t, func(c *Config) { withDefaultLimits(c); c.SourceRequests = 1 })
	user := d.client("9.9.9.9:1000", "anna", "", "")
	user.want(0, stun.MethodAllocate, udp)
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	stranger := d.client("9.9.9.9:1", "", "", "")
	for i := 0; stranger.tell(binding) != nil; i++ {
		if stranger.from.Port++; i > 1000 {
			t.Fatal("strangers of one source are answered without end")
		}
	}
	if user.tell(binding) == nil {
		t.Error("the Binding of a client with an allocation is not answered")
	}
	user.nonce = nil
	for range sourceBurst {
		stranger.from.Port++
		stranger.tell(stun.MustBuild(stun.TransactionID, allocate, udp))
	}
	user.want(0, stun.MethodRefresh)
}

// 130 people are in calls behind one address, and their browsers send a Binding each 10 s. Those who come by UDP and by
// TCP meanwhile have their answers.
func TestPeopleInCallsLeaveRoomForNewcomers(t *testing.T) {
	const people = 130
	d := newTestControl(t, withDefaultLimits)
	binding := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	for range 6 {
		for i := range people {
			at := source{endpointOf(netip.AddrPortFrom(netip.MustParseAddr("9.9.9.9"), uint16(2000+i))), overUDP}
			if d.response(binding.Raw, at) == nil {
				t.Fatalf("the Binding of person %d is not answered", i)
			}
		}
		d.now = d.now.Add(10 * time.Second)
		at := source{endpointOf(netip.MustParseAddrPort("9.9.9.9:5000")), overTCP}
		stream := new(stream)
		for range 8 {
			if why := d.control.admit(binding.Raw, &at, stream, d.control.clock(d.now)); why != none {
				t.Fatalf("a request by TCP is dropped: %s", causeNames[why])
			}
		}
		d.client("9.9.9.9:5000", "anna", "", "").want(0, stun.MethodAllocate, udp)
		d.after(time.Second)
		d.control.gone(stream, d.now)
		for a := range d.control.allocations {
			d.control.mu.Lock()
			d.control.removeLocked(a, d.now)
			d.control.mu.Unlock()
		}
	}
}

// One source does not take all allocations.
func TestAllocationsOfASourceAreBounded(t *testing.T) {
	d := newTestControl(t, func(c *Config) { c.SourceAllocations = 2 })
	d.client("9.9.9.9:1000", "anna", "", "").want(0, stun.MethodAllocate, udp)
	second := d.client("9.9.9.9:1001", "bob", "", "")
	second.want(0, stun.MethodAllocate, udp)
	third := d.client("9.9.9.9:1002", "carl", "", "")
	third.want(stun.CodeAllocQuotaReached, stun.MethodAllocate, udp)
	d.client("9.9.9.8:1000", "dora", "", "").want(0, stun.MethodAllocate, udp)
	one, other := d.client("[2a00:1::1]:1000", "eve", "", ""), d.client("[2a00:1:0:ff::1]:1000", "fred", "", "")
	one.want(0, stun.MethodAllocate, udp)
	other.want(0, stun.MethodAllocate, udp)
	d.client("[2a00:1:0:1::1]:1000", "gus", "", "").want(stun.CodeAllocQuotaReached, stun.MethodAllocate, udp)
	d.client("[2a00:1:0:100::1]:1000", "hal", "", "").want(0, stun.MethodAllocate, udp)
	second.want(0, stun.MethodRefresh, life(0))
	third.want(0, stun.MethodAllocate, udp)
	d.after(time.Hour)
	if got := len(d.control.origins); got != 0 {
		t.Errorf("%d sources are remembered without an allocation", got)
	}
}

// All clients of a source share one rate, and all of the relay another one.
func TestSharedBitRates(t *testing.T) {
	const rate = 1_000_000
	for name, test := range map[string]struct {
		change func(*Config)
		from   []string
		bound  bool
		why    cause
	}{
		"a source":    {func(c *Config) { c.SourceBitRate = rate }, []string{"9.9.9.9:1000", "9.9.9.9:1001"}, true, dropSource},
		"two sources": {func(c *Config) { c.SourceBitRate = rate }, []string{"9.9.9.9:1000", "9.9.9.8:1000"}, false, dropSource},
		"the relay":   {func(c *Config) { c.TotalBitRate = rate }, []string{"9.9.9.9:1000", "9.9.9.8:1000"}, true, dropTotal},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestControl(t, test.change)
			to := endpointOf(netip.MustParseAddrPort("8.8.8.8:5000"))
			var all []*allocation
			for _, from := range test.from {
				p := d.client(from, from, "", "")
				p.want(0, stun.MethodAllocate, udp)
				p.want(0, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
				all = append(all, d.control.router.clients.find(&p.from.endpoint))
			}
			r, packet := d.control.router, make([]byte, 1000)
			for direction, pass := range map[string]func(*allocation) cause{
				"up": func(a *allocation) cause {
					return r.send(a, &to, packet, d.control.clock(d.now), new(delivery))
				},
				"down": func(a *allocation) cause {
					return r.down(a.sockets[0], &to, false, packet, d.control.clock(d.now), new(delivery))
				},
			} {
				bits := 0
				for range 10_000 { // 10 s at 3 Mbit/s for each
					d.now = d.now.Add(time.Millisecond)
					for i, a := range all {
						if d.now.UnixMilli()%8 >= 3 {
							continue
						}
						switch why := pass(a); why {
						case none:
							bits += 8 * len(packet)
						case test.why:
						default:
							t.Fatalf("%s, %d: %s", direction, i, causeNames[why])
						}
					}
				}
				seconds := bits / rate
				if want := 10; test.bound && (seconds < want-1 || seconds > want) || !test.bound && seconds < 2*want-1 {
					t.Errorf("%s: %d Mbit in 10 s; bound to 1 Mbit/s together: %v", direction, seconds, test.bound)
				}
			}
		})
	}
}
