package turnload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	// underWay is how long a packet may take before it counts as lost.
	underWay      = 500 * time.Millisecond
	progressEach  = 500 * time.Millisecond
	progressPause = 200 * time.Millisecond // while there are only allocations
)

// Run allocates, drives the load until the steady window is over, and ends the allocations. It blocks. A server's
// refusal is a [*RefusedError], its silence [ErrSilent].
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg.Threads = cmp.Or(cfg.Threads, 1)
	if err := cfg.validate(); err != nil {
		return Result{}, err
	}
	d := &driver{cfg: cfg}
	defer d.close()
	if err := d.watch(&d.before); err != nil {
		return Result{}, err
	}
	began := time.Now()
	if err := d.allocate(ctx); err != nil {
		return Result{}, err
	}
	allocated := time.Since(began)
	result, err := d.drive(ctx)
	result.AllocateMs = float64(allocated.Microseconds()) / 1000
	return result, err
}

// A driver is one run.
type driver struct {
	cfg      Config
	legs     []*leg
	workers  []*worker
	before   usage // the first allocation
	last     usage // at the last progress
	lastSent int64
	lastRcvd int64
}

// usage is what processes have used so far.
type usage struct {
	at          time.Time
	server, own time.Duration
	machine     time.Duration // all processors
	rss         int64
}

// watch notes what server and generator have used.
func (d *driver) watch(u *usage) (err error) {
	u.at = time.Now()
	if u.own, err = cpuTime(os.Getpid()); err == nil {
		u.machine, err = busyTime()
	}
	if err != nil {
		return err
	}
	if d.cfg.PID == 0 {
		return nil
	}
	if u.server, err = cpuTime(d.cfg.PID); err == nil {
		u.rss, err = resident(d.cfg.PID)
	}
	if err != nil {
		return fmt.Errorf("process %d cannot be watched: %w", d.cfg.PID, err)
	}
	return nil
}

// allocate opens the legs, one after the other.
func (d *driver) allocate(ctx context.Context) error {
	told := time.Now()
	for number := range d.cfg.Legs {
		l, err := openLeg(ctx, d.cfg, number)
		d.legs = append(d.legs, l)
		if err != nil {
			return err
		}
		switch {
		case d.cfg.Pair:
			if number%2 == 1 {
				mate := d.legs[number-1]
				err = errors.Join(l.bind(ctx, mate.relayed), mate.bind(ctx, l.relayed))
			}
		case d.cfg.Rate == 0:
			err = l.bind(ctx, l.local) // some address; nothing is sent
		default:
			err = l.bindPeer(ctx)
		}
		if err != nil {
			return err
		}
		if d.cfg.Progress != nil && time.Since(told) > progressPause {
			told = time.Now()
			d.cfg.Progress(Progress{Allocated: number + 1})
		}
	}
	return nil
}

// drive sends and receives, and measures.
func (d *driver) drive(ctx context.Context) (Result, error) {
	run := rand.Uint32()
	d.workers = divide(d.cfg, run, d.legs)
	// A worker never gives its processor back; there must be one for the rest.
	if least := len(d.workers) + 1; runtime.GOMAXPROCS(0) < least {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(least))
	}
	var s schedule
	s.begin = time.Now().Add(10 * time.Millisecond)
	_ = d.watch(&d.last) // the end tells
	s.from = s.begin.Add(d.cfg.WarmUp)
	s.to = s.from.Add(d.cfg.Measure)
	s.end = s.to.Add(underWay)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var working sync.WaitGroup
	for _, w := range d.workers {
		working.Go(func() {
			err := w.work(ctx, s)
			if err == nil {
				err = w.finish(s)
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	var from, to usage
	d.wait(ctx, s, s.from)
	err := d.watch(&from)
	if err == nil {
		d.wait(ctx, s, s.to)
		err = d.watch(&to)
	}
	if err != nil {
		cancel(err)
	}
	working.Wait()
	if err := context.Cause(ctx); err != nil {
		return Result{}, err
	}
	return d.sum(from, to), nil
}

// wait returns at a time, or when ctx ends, and tells the progress meanwhile.
func (d *driver) wait(ctx context.Context, s schedule, until time.Time) {
	tick := time.NewTicker(progressEach)
	defer tick.Stop()
	done := time.NewTimer(time.Until(until))
	defer done.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-done.C:
			return
		case <-tick.C:
			if d.cfg.Progress != nil {
				d.cfg.Progress(d.progress(s))
			}
		}
	}
}

func (d *driver) progress(s schedule) Progress {
	t := newTally()
	for _, w := range d.workers {
		w.mu.Lock()
		t.add(&w.all)
		w.all.latency.Reset()
		w.mu.Unlock()
	}
	var now usage
	_ = d.watch(&now) // the end tells
	received := t.received[up] + t.received[down]
	p := Progress{
		Allocated: len(d.legs),
		Elapsed:   now.at.Sub(s.begin),
		Measuring: now.at.After(s.from),
		P50:       time.Duration(t.latency.ValueAtQuantile(50)),
		P99:       time.Duration(t.latency.ValueAtQuantile(99)),
		RSS:       now.rss,
	}
	passed := now.at.Sub(d.last.at)
	p.Sent = float64(t.sent-d.lastSent) / passed.Seconds()
	p.Received = float64(received-d.lastRcvd) / passed.Seconds()
	p.CPU = (now.server - d.last.server).Seconds() / passed.Seconds()
	if d.lastSent > 0 { // what was sent by then has arrived by now
		p.Lost = float64(max(d.lastSent-received, 0)) / float64(d.lastSent)
	}
	d.last, d.lastSent, d.lastRcvd = now, t.sent, received
	return p
}

// sum makes the result of what the workers have counted.
func (d *driver) sum(from, to usage) Result {
	window, foreign := newTally(), int64(0)
	for _, w := range d.workers {
		w.mu.Lock()
		window.add(&w.window)
		foreign += w.all.foreign
		w.mu.Unlock()
	}
	micros := func(percentile float64) float64 {
		return float64(window.latency.ValueAtQuantile(percentile)) / 1000
	}
	seconds := d.cfg.Measure.Seconds()
	r := Result{
		Load: d.cfg.Load, Seconds: seconds,
		Offered: int64(d.cfg.Rate*seconds+0.5) * int64(d.cfg.senders()),
		Sent:    window.sent, Up: window.received[up], Down: window.received[down], Foreign: foreign,
		Latency: Latency{P50Us: micros(50), P90Us: micros(90), P99Us: micros(99), MaxUs: micros(100)},
	}
	r.Received = r.Up + r.Down
	r.PacketsPerSecond = float64(r.Received) / seconds
	if r.Sent > 0 {
		r.Loss = 1 - float64(r.Received)/float64(r.Sent)
	}
	// The counters were read a little beside the window's ends.
	passed := to.at.Sub(from.at).Seconds()
	r.GeneratorCPU = (to.own - from.own).Seconds() / passed
	if d.cfg.PID == 0 {
		return r
	}
	r.OthersCPU = max(0, (to.machine-from.machine-(to.own-from.own)-(to.server-from.server)).Seconds()/passed)
	r.Server = &Process{
		PID: d.cfg.PID, CPU: (to.server - from.server).Seconds() / passed,
		RSSBefore: d.before.rss, RSS: to.rss,
		BytesPerAllocation: float64(to.rss-d.before.rss) / float64(d.cfg.Legs),
	}
	if r.Received > 0 {
		r.Server.CPUUsPerPacket = r.Server.CPU * 1e6 / r.PacketsPerSecond
	}
	return r
}

// close ends every allocation. It waits for no answer.
func (d *driver) close() {
	for _, l := range d.legs {
		if l != nil {
			l.close()
		}
	}
}
