package turnload

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	// drainAt is how many packets may gather in a socket before they are looked at, within soonest and latest.
	drainAt          = 12
	idleLook         = time.Second // where only answers of STUN come
	soonest, latest  = time.Millisecond, 100 * time.Millisecond
	longestSleep     = time.Millisecond // the scheduler waits for a worker that sleeps
	sendsAtATime     = 64               // then what arrived is looked at, too
	givenUp          = 50 * time.Millisecond
	receivesAtATime  = 64
	receiveBuffer    = 640 // any answer of STUN, and the beginning of a packet
	slowestMeasured  = 10 * time.Second
	significantDigit = 3
)

// A direction is that of a packet on its leg.
type direction uint32

const (
	up   direction = iota // from the client
	down                  // from the peer
)

// A source is a socket that sends, a sink one that receives.
type source struct {
	fd   int
	flow uint32
	dir  direction
}

type sink struct {
	leg    *leg // of a client, where STUN messages come, too; nil for a peer
	fd     int
	flow   uint32 // the one that belongs here
	dir    direction
	framed bool // with the header of ChannelData
}

// flow is what packets of one source are marked with.
func flow(l *leg, d direction) uint32 { return uint32(l.number)<<1 | uint32(d) }

// A tally is what was counted.
type tally struct {
	sent     int64
	received [2]int64 // by direction
	foreign  int64
	latency  *hdrhistogram.Histogram // ns
}

func newTally() tally {
	return tally{latency: hdrhistogram.New(1, slowestMeasured.Nanoseconds(), significantDigit)}
}

// arrived counts a packet. A clock that was set back makes the latency at least something.
func (t *tally) arrived(d direction, latency int64) {
	t.received[d]++
	_ = t.latency.RecordValue(min(max(latency, 1), slowestMeasured.Nanoseconds()))
}

func (t *tally) add(other *tally) {
	t.sent += other.sent
	t.foreign += other.foreign
	for d, n := range other.received {
		t.received[d] += n
	}
	t.latency.Merge(other.latency)
}

// A ring is what is to be done for each of several members once a period.
type ring struct {
	period time.Duration
	phases []time.Duration // in order
	order  []int           // the members, in the order of their phases
	next   int
	turn   time.Duration
}

func newRing(period time.Duration, phases []time.Duration) ring {
	r := ring{period: period, order: make([]int, len(phases))}
	for i := range r.order {
		r.order[i] = i
	}
	slices.SortStableFunc(r.order, func(a, b int) int { return int(phases[a] - phases[b]) })
	for _, member := range r.order {
		r.phases = append(r.phases, phases[member])
	}
	return r
}

// evenly are n phases that share a period.
func evenly(n int, period time.Duration) []time.Duration {
	phases := make([]time.Duration, n)
	for i := range phases {
		phases[i] = period * time.Duration(i) / time.Duration(n)
	}
	return phases
}

// due is when the next member's turn comes, from the beginning on.
func (r *ring) due() time.Duration {
	if len(r.order) == 0 {
		return 1<<63 - 1
	}
	return r.turn + r.phases[r.next]
}

// take ends the turn of the next member, and is that member.
func (r *ring) take() int {
	member := r.order[r.next]
	if r.next++; r.next == len(r.order) {
		r.next = 0
		r.turn += r.period
	}
	return member
}

// A worker is a thread that sends and receives for some legs. All but mu's is owned by its goroutine.
type worker struct {
	cfg     Config
	run     uint32 // marks the packets of this run
	legs    []*leg
	sources []source
	sinks   []sink
	sending ring
	drain   ring
	renewal ring
	bursts  *rand.Rand
	out     batch
	in      batch

	mu     sync.Mutex
	all    tally // guarded by mu: of the whole run; its latencies since the last progress
	window tally // guarded by mu: of packets that were sent in the steady window
}

// newWorker expects the legs' channels to be bound.
func newWorker(cfg Config, run uint32, legs []*leg, number int) *worker {
	w := &worker{
		cfg: cfg, run: run, legs: legs, all: newTally(), window: newTally(),
		bursts: rand.New(rand.NewPCG(1, uint64(number))),
	}
	for i, l := range legs {
		from := flow(l, down)
		dir := down
		if cfg.Pair {
			from, dir = flow(legs[i^1], up), up
		}
		w.sources = append(w.sources, source{fd: l.client, flow: flow(l, up), dir: up})
		w.sinks = append(w.sinks, sink{leg: l, fd: l.client, flow: from, dir: dir, framed: true})
		if l.peer >= 0 {
			w.sources = append(w.sources, source{fd: l.peer, flow: flow(l, down), dir: down})
			w.sinks = append(w.sinks, sink{fd: l.peer, flow: flow(l, up), dir: up})
		}
	}
	looks := idleLook
	if cfg.Rate > 0 {
		interval := cfg.interval()
		// The same in each run, and neither in step nor evenly spread: callers know nothing of each other.
		phases := make([]time.Duration, len(w.sources))
		random := rand.New(rand.NewPCG(2, uint64(number)))
		for i := range phases {
			phases[i] = time.Duration(random.Int64N(int64(interval)))
		}
		w.sending = newRing(interval, phases)
		looks = min(max(time.Duration(drainAt/cfg.Rate*float64(time.Second)), soonest), latest)
	}
	w.drain = newRing(looks, evenly(len(w.sinks), looks))
	w.renewal = newRing(renewEach, evenly(len(legs), renewEach))
	w.renewal.turn = renewEach / 2
	w.out = newBatch(cfg.BurstMax, channelHeader+cfg.Size)
	w.in = newBatch(receivesAtATime, receiveBuffer)
	w.in.addControl()
	return w
}

// A schedule is when things happen, by the clock of this machine.
type schedule struct {
	begin    time.Time // of sending
	from, to time.Time // the steady window; sending ends with it
	end      time.Time // of waiting for what is still under way
}

// work drives the legs until the schedule's end or that of ctx.
func (w *worker) work(ctx context.Context, s schedule) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Else the kernel lets the thread sleep 50 µs longer than it wants to.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)

	stop := s.to.Sub(s.begin)
	for ctx.Err() == nil {
		now := time.Now()
		at := now.Sub(s.begin)
		if now.After(s.end) || at > stop && w.through() {
			return nil
		}
		for range sendsAtATime {
			if due := w.sending.due(); due > at || due >= stop {
				break
			}
			due := w.sending.due()
			n := w.cfg.BurstMin + w.bursts.IntN(w.cfg.BurstMax-w.cfg.BurstMin+1)
			src := &w.sources[w.sending.take()]
			if at-due > givenUp {
				continue // this machine does not keep up, and what is late must not come in one flood
			}
			w.send(src, n, s)
		}
		for len(w.sinks) > 0 && w.drain.due() <= at {
			if err := w.receive(&w.sinks[w.drain.take()], s); err != nil {
				return err
			}
			if w.drain.due()+w.drain.period < at {
				break // more than a round behind: send first
			}
		}
		for w.renewal.due() <= at {
			w.legs[w.renewal.take()].renew()
		}
		next := min(w.drain.due(), w.renewal.due())
		if due := w.sending.due(); due < stop {
			next = min(next, due)
		}
		sleep(min(next-time.Since(s.begin), longestSleep))
	}
	return ctx.Err()
}

// through reports whether all that was sent has arrived.
func (w *worker) through() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.sent == w.all.received[up]+w.all.received[down]
}

// finish looks at every socket once more.
func (w *worker) finish(s schedule) error {
	for i := range w.sinks {
		if err := w.receive(&w.sinks[i], s); err != nil {
			return err
		}
	}
	return nil
}

// sleep keeps the goroutine's processor, which costs less than to give it back and take it again for some
// microseconds; so it must be short.
func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	t := unix.NsecToTimespec(d.Nanoseconds())
	_, _, _ = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
}

// send sends a burst.
func (w *worker) send(src *source, n int, s schedule) {
	now := time.Now()
	size := w.cfg.Size
	header := 0
	if src.dir == up {
		header = channelHeader
	}
	w.out.pack(n, header+size, w.cfg.GSO)
	for i := range n {
		b := w.out.buffer[i*(header+size):][:header+size]
		if header > 0 {
			channelData(b, size)
		}
		stamp(b[header:], w.run, src.flow, now)
	}
	sent := w.out.send(src.fd, n, w.cfg.GSO)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.sent += int64(sent)
	if !now.Before(s.from) && now.Before(s.to) {
		w.window.sent += int64(sent)
	}
}

// receive takes all that is in a socket.
func (w *worker) receive(k *sink, s schedule) error {
	for {
		n := w.in.receive(k.fd)
		w.mu.Lock()
		for i := range n {
			if stun, err := w.count(k, s, i); stun && err != nil {
				w.mu.Unlock()
				return err
			}
		}
		w.mu.Unlock()
		if n < receivesAtATime {
			return nil
		}
	}
}

// count looks at message i of those that were received, with mu held.
func (w *worker) count(k *sink, s schedule, i int) (isSTUN bool, err error) {
	b, length, at := w.in.message(i)
	if k.framed {
		if len(b) > 0 && wire.KindOf(b[0]) == wire.STUN {
			return true, k.leg.answered(b)
		}
		if len(b) < channelHeader || binary.BigEndian.Uint16(b) != channel || int(binary.BigEndian.Uint16(b[2:])) != w.cfg.Size {
			w.all.foreign++
			return false, nil
		}
		b = b[channelHeader:]
		length -= channelHeader
	}
	run, flow, sent, ok := readStamp(b)
	if !ok || run != w.run || flow != k.flow || length != w.cfg.Size {
		w.all.foreign++
		return false, nil
	}
	w.all.arrived(k.dir, at-sent)
	if sent >= s.from.UnixNano() && sent < s.to.UnixNano() {
		w.window.arrived(k.dir, at-sent)
	}
	return false, nil
}

// stamp writes the beginning of a packet: the run, the flow, when it was sent (ns of the machine's clock).
func stamp(b []byte, run, flow uint32, now time.Time) {
	binary.BigEndian.PutUint32(b, run)
	binary.BigEndian.PutUint32(b[4:], flow)
	binary.BigEndian.PutUint64(b[8:], uint64(now.UnixNano()))
}

func readStamp(b []byte) (run, flow uint32, sent int64, ok bool) {
	if len(b) < payloadHeader {
		return 0, 0, 0, false
	}
	return binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), int64(binary.BigEndian.Uint64(b[8:])), true
}

// divide gives each worker its legs; pairs stay together.
func divide(cfg Config, run uint32, legs []*leg) []*worker {
	workers := make([]*worker, 0, cfg.Threads)
	each := (len(legs)/2 + cfg.Threads - 1) / cfg.Threads * 2
	for i, part := range slices.Collect(slices.Chunk(legs, max(each, 2))) {
		workers = append(workers, newWorker(cfg, run, part, i))
	}
	return workers
}
