package relay

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
)

func fed(c *Config) { c.CallScoped, c.Fed = true, true }

// late are the codes of what was answered later than at once, since it was asked last.
func (p *testClient) late() (codes []stun.ErrorCode) {
	p.t.Helper()
	for _, raw := range p.carrier.said {
		m := &stun.Message{Raw: raw}
		if err := m.Decode(); err != nil {
			p.t.Fatal(err)
		}
		key := stun.NewLongTermIntegrity(p.credentials.Username, "visavis", p.credentials.Password)
		if err := key.Check(m); err != nil {
			p.t.Errorf("a late answer is not signed: %v", err)
		}
		codes = append(codes, codeOf(p.t, m))
	}
	p.carrier.said = nil
	return codes
}

// says is what is answered late.
func (p *testClient) says(when string, want ...stun.ErrorCode) {
	p.t.Helper()
	if diff := cmp.Diff(want, p.late()); diff != "" {
		p.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

const unanswered = stun.ErrorCode(-1)

// A request that is ahead of what the relay is told is answered when it is told.
func TestRequestsWaitForTheFeed(t *testing.T) {
	for name, tell := range map[string]func(d *testControl){
		"permit": func(d *testControl) { d.control.permit(d.now, "call", "callee", addrs("8.8.8.8")) },
		"accept": func(d *testControl) { d.control.relayOnly(d.now, "call", false) },
		"relays": func(d *testControl) { d.control.addRelays(d.now, addrs("9.9.9.9", "8.8.8.8")) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestControl(t, fed)
			switch name {
			case "accept", "relays":
				d.control.permit(d.now, "call", "callee", addrs("8.8.8.8"))
				d.control.relayOnly(d.now, "call", true)
			}
			p := d.client("1.1.1.1:1000", "anna", "call", "caller")
			p.want(0, stun.MethodAllocate, udp)
			p.want(unanswered, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
			p.want(unanswered, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:5000"))
			p.want(unanswered, stun.MethodCreatePermission, peer("7.7.7.7:5000")) // stays
			if _, send, _ := p.route(0x4000, "8.8.8.8:5000"); send != dropPermission {
				t.Errorf("while it waits, a Send indication is %q, want dropped", causeNames[send])
			}
			p.says("before")
			tell(d)
			p.says("told", 0, 0)
			if up, send, down := p.route(0x4000, "8.8.8.8:5000"); up != none || send != none || down != none {
				t.Errorf("packets: %q, %q, %q, want relayed", causeNames[up], causeNames[send], causeNames[down])
			}
			if got := d.control.metrics.pending.Load(); got != 1 {
				t.Errorf("%d are pending, want the other one", got)
			}
			p.want(0, stun.MethodRefresh)
			d.after(pendingTimeout)
			p.says("in vain", 403)
			if got := d.control.metrics.pending.Load(); got != 0 {
				t.Errorf("%d are pending at the end", got)
			}
		})
	}
}

// What waits in vain is refused after a second, however often it is sent and whatever else is told.
func TestRequestsDoNotWaitForLong(t *testing.T) {
	d := newTestControl(t, fed)
	p := d.client("1.1.1.1:1000", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	p.id = [stun.TransactionIDSize]byte{1}
	p.want(unanswered, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	d.after(500 * time.Millisecond)
	p.want(unanswered, stun.MethodCreatePermission, peer("8.8.8.8:5000")) // again
	if got := d.control.metrics.pending.Load(); got != 1 {
		t.Errorf("%d are pending, want one", got)
	}
	d.control.permit(d.now, "call", "callee", addrs("7.7.7.7"))
	d.after(400 * time.Millisecond)
	p.says("after 0.9 s")
	d.after(100 * time.Millisecond)
	p.says("after a second", 403)
	if got := d.control.metrics.drops[refusePeer].Load(); got != 1 {
		t.Errorf("%d are counted as refused, want one", got)
	}
}

func TestWhatDoesNotWait(t *testing.T) {
	d := newTestControl(t, fed)
	p, other := d.client("1.1.1.1:1000", "anna", "call", "caller"), d.client("2.2.2.2:1", "eve", "other", "caller")
	p.want(0, stun.MethodAllocate, udp)
	p.want(403, stun.MethodCreatePermission, peer("10.0.0.1:5000")) // forbidden to all
	p.want(403, stun.MethodChannelBind, channel(0x4000), peer("8.8.8.8:53"))
	relayed := relayedOf(t, other.want(0, stun.MethodAllocate, udp))
	p.want(403, stun.MethodChannelBind, channel(0x4000), toward(relayed[0])) // of another call
	p.want(400, stun.MethodChannelBind, channel(0x3fff), peer("8.8.8.8:5000"))

	// The server's own relay is never late.
	own := newTestControl(t, scoped).client("1.1.1.1:1000", "anna", "call", "caller")
	own.want(0, stun.MethodAllocate, udp)
	own.want(403, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
}

func TestWaitingIsBounded(t *testing.T) {
	d := newTestControl(t, fed)
	p := d.client("1.1.1.1:1000", "anna", "call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	for i := range maxPending {
		p.want(unanswered, stun.MethodCreatePermission, peer(fmt.Sprintf("8.8.8.%d:5000", i+1)))
	}
	p.says("as many as may")
	p.want(unanswered, stun.MethodCreatePermission, peer("8.8.8.100:5000"))
	p.says("one more", 403) // the oldest
	d.control.permit(d.now, "call", "callee", addrs("8.8.8.1", "8.8.8.2", "8.8.8.100"))
	p.says("told", 0, 0)

	// Nothing is left of what an allocation waits for when it goes.
	d.control.endCall(d.now, "call")
	d.after(2 * time.Second)
	p.says("after the call")
	p = d.client("1.1.1.1:1000", "anna", "another", "caller")
	p.want(0, stun.MethodAllocate, udp)
	d.now = d.now.Add(defaultLifetime - time.Second)
	p.want(unanswered, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
	d.after(2 * time.Second)
	p.says("after its lifetime")
	if got := d.control.metrics.pending.Load(); got != 0 {
		t.Errorf("%d are pending at the end", got)
	}
}

// The sweep is what refuses, so that it takes between one second and two.
func TestTheSweepRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTestControl(t, fed)
		d.now = time.Now()
		d.control.begin = d.now
		p := d.client("1.1.1.1:1000", "anna", "call", "caller")
		p.want(0, stun.MethodAllocate, udp)
		p.want(unanswered, stun.MethodCreatePermission, peer("8.8.8.8:5000"))
		s := &Server{control: d.control, metrics: d.control.metrics, cfg: d.control.cfg}
		s.fed.Store(true)
		sweep := func(by time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), by)
			defer cancel()
			s.sweep(ctx)
		}
		sweep(pendingTimeout - time.Millisecond)
		p.says("before a second has passed")
		sweep(pendingTimeout + time.Millisecond)
		p.says("within two", 403)
	})
}

func TestStreamsWaitForTheFeed(t *testing.T) {
	s, reg := start(t, fed)
	for _, network := range []string{"udp", "tcp"} {
		k := talk(t, s, network)
		k.credentials = Issue(secret, "anna", "call-"+network, "caller", time.Now(), time.Hour)
		k.allocate()
		answered := make(chan stun.ErrorCode, 1)
		go func() {
			_, code := k.ask(stun.MethodCreatePermission, peer("127.0.0.7:5000"))
			answered <- code
		}()
		eventually(t, reg, 1, "parked_requests")
		s.Permit("call-"+network, "callee", addrs("127.0.0.7")...)
		if got := <-answered; got != 0 {
			t.Errorf("%s: answered with %d when it is permitted", network, got)
		}
		k.want(403, stun.MethodCreatePermission, peer("127.0.0.9:5000"))
	}
}
