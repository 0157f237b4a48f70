package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visavis/visavis/protocol"
)

// callFigures is what whole calls took in one window, while many sessions stood idle.
type callFigures struct {
	Server    string  `json:"server"`
	Load      string  `json:"load"` // given, near half or half
	Sessions  int     `json:"sessions"`
	PerMinute float64 `json:"perMinute"` // calls, as it came out
	Calls     int     `json:"calls"`
	// CPU is the server's time for a call, in nanoseconds, without what the sessions took when all were idle. Share and Idle
	// are what of one core the server took in the window, and in one without calls before.
	CPU   int64   `json:"cpuNs"`
	Share float64 `json:"share"`
	Idle  float64 `json:"idleShare"`
	// Hops are the candidates that were relayed; Median and P99 the time from send to receive, in nanoseconds.
	Hops   int   `json:"hops"`
	Median int64 `json:"medianNs"`
	P99    int64 `json:"p99Ns"`
	// Late is the 99th percentile of how late a timer of this process went off meanwhile: what a busy machine adds to P99.
	// Stolen is what of its time the machine had to leave to others of its host.
	Late   int64   `json:"lateNs"`
	Stolen float64 `json:"stolenShare"`
}

const (
	// callWindow is how long calls begin at one rate.
	callWindow = 12 * time.Second
	// halfTries bounds the windows in which the rate is looked for that keeps half of a core busy.
	halfTries = 6
	// trickled is how many candidates each party of a call sends, trickle how long after each other: what a browser with a
	// few interfaces finds.
	trickled = 8
	trickle  = 20 * time.Millisecond
)

// measureCalls lets pairs of the sessions ring, accept, exchange descriptions and candidates, and hang up: at the given rate, and
// at that which keeps half of a core busy, by what a call took before.
func measureCalls(ctx context.Context, c contestant, s settings, tell func(string)) ([]callFigures, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var w crowd
	defer w.leave()
	if err := w.grow(ctx, c.dialect, server.addr, s.connections, tell); err != nil {
		return nil, err
	}
	if err := pause(ctx, quiet); err != nil {
		return nil, err
	}

	// Unmeasured first, so that the server has seen calls.
	next, err := w.calls(ctx, 0, s.calls/60, callWindow/4)
	if err != nil {
		return nil, err
	}
	idle, _, err := shareOf(server, func() error { return pause(ctx, callWindow) })
	if err != nil {
		return nil, err
	}
	var all []callFigures
	window := func(load string, rate float64) error {
		w.hops.since()
		lateness := measureLateness(ctx)
		first := next
		stolen := machineTimes()
		share, took, err := shareOf(server, func() (err error) {
			next, err = w.calls(ctx, first, rate, callWindow)
			return err
		})
		late := lateness()
		stolen = machineTimes().since(stolen)
		if err != nil {
			return fmt.Errorf("%.0f calls a minute: %w", 60*rate, err)
		}
		hops, calls := w.hops.since(), next-first
		f := callFigures{
			Server: c.name, Load: load, Sessions: s.connections, Calls: calls, PerMinute: float64(calls) / took.Minutes(),
			CPU: int64((share - idle) * float64(took) / float64(calls)), Share: share, Idle: idle,
			Hops: len(hops), Median: percentile(hops, 0.5).Nanoseconds(), P99: percentile(hops, 0.99).Nanoseconds(),
			Late: percentile(late, 0.99).Nanoseconds(), Stolen: stolen.stolenShare(),
		}
		tell(fmt.Sprintf("%.0f calls a minute: %.2f ms of CPU each, %.0f %% of a core (%.0f idle), hop %.2f ms, p99 %.2f ms (timers %.2f, %.1f %% stolen)",
			f.PerMinute, float64(f.CPU)/1e6, 100*share, 100*idle, float64(f.Median)/1e6, float64(f.P99)/1e6, float64(f.Late)/1e6, 100*f.Stolen))
		all = append(all, f)
		return nil
	}
	if err := window("given", s.calls/60); err != nil {
		return nil, err
	}
	// A call costs less the more there are: so from there it is taken again what half of a core can do, until that is about right.
	for tries := 1; ; tries++ {
		before := all[len(all)-1]
		if err := window("near half", max(1, (0.5-idle)*float64(time.Second)/float64(before.CPU))); err != nil {
			return nil, err
		}
		if last := &all[len(all)-1]; math.Abs(last.Share-0.5) < 0.03 || tries == halfTries {
			last.Load = "half"
			return all, nil
		}
	}
}

// shareOf is what of one core a server takes while f runs, and how long that is.
func shareOf(server *server, f func() error) (share float64, took time.Duration, err error) {
	before, err := server.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	after, err := server.cpu()
	return (after - before).Seconds() / took.Seconds(), took, err
}

// measureLateness lets a timer go off again and again until the function that it returns is called, which tells how late it
// was each time, in order.
func measureLateness(ctx context.Context) (end func() []time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	var late []time.Duration
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			set := time.Now()
			if pause(ctx, time.Millisecond) != nil {
				return
			}
			late = append(late, time.Since(set)-time.Millisecond)
		}
	}()
	return func() []time.Duration {
		cancel()
		<-ended
		slices.Sort(late)
		return late
	}
}

// calls begins calls at an even rate and waits until all have ended. Pairs of clients take turns; next is whose it is.
func (w *crowd) calls(ctx context.Context, first int, rate float64, d time.Duration) (next int, err error) {
	pairs := len(w.clients) / 2
	n := int(rate * d.Seconds())
	var failed atomic.Pointer[error]
	var group sync.WaitGroup
	defer group.Wait()
	began := time.Now()
	for i := range n {
		if err := pause(ctx, time.Until(began.Add(time.Duration(float64(i)/rate*float64(time.Second))))); err != nil {
			return 0, err
		}
		if failed.Load() != nil {
			break
		}
		pair := (first + i) % pairs
		group.Go(func() {
			if err := (ours{}).converse(w.clients[2*pair], w.clients[2*pair+1]); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	if failures := w.failures(); failures > 0 {
		return 0, fmt.Errorf("%d refusals and lost connections", failures)
	}
	return first + n, nil
}

// converse is a whole call of two clients.
func (o ours) converse(caller, callee *client) error {
	if err := o.join(caller, callee); err != nil {
		return err
	}
	offer := &protocol.Offer{Call: caller.call, Description: protocol.Description{Type: "offer", SDP: description}}
	if err := caller.session.Send(offer); err != nil {
		return err
	}
	if _, err := await[*protocol.Offer](callee); err != nil {
		return err
	}
	answer := &protocol.Answer{Call: callee.call, Description: protocol.Description{Type: "answer", SDP: description}}
	if err := callee.session.Send(answer); err != nil {
		return err
	}
	if _, err := await[*protocol.Answer](caller); err != nil {
		return err
	}
	want := [2]int64{caller.candidates.Load() + trickled, callee.candidates.Load() + trickled}
	for range trickled {
		for _, c := range []*client{caller, callee} {
			if err := o.sendCandidate(c); err != nil {
				return err
			}
		}
		time.Sleep(trickle)
	}
	for deadline := time.Now().Add(patience); caller.candidates.Load() < want[0] || callee.candidates.Load() < want[1]; time.Sleep(trickle) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s and %s: not all candidates arrived", caller.name, callee.name)
		}
	}
	if err := caller.session.Send(&protocol.Hangup{Call: caller.call}); err != nil {
		return err
	}
	for _, c := range []*client{caller, callee} {
		if _, err := await[*protocol.Ended](c); err != nil {
			return err
		}
	}
	return nil
}

// description is as long as a browser's for sound and picture, and has what the server looks at.
var description = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n" +
	strings.Repeat("m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\n"+
		"a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n"+
		"a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n"+
		strings.Repeat("a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\n", 17), 2)
