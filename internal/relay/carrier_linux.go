package relay

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// requestQueue is how many requests may wait for an answer; the last of them do so only for clients with an allocation,
	// whom a flood of strangers must not keep from refreshing it.
	requestQueue = 256
	reserved     = 64

	// fullLoad is what a worker does not wait, of a second, when it is to share with another one: if that goes on for
	// fullFor seconds, for the time that other programs take away counts, too.
	fullLoad = 0.7
	fullFor  = 3

	// restLoad is what each of one worker fewer would have to do, when that goes on for restFor seconds, for the last one
	// to rest: a packet costs the more the more workers there are, for they find fewer at a time. It is less than
	// fullLoad, or they would come and go.
	restLoad = 0.6
	restFor  = 3
)

// batchedCarrier is the carrier of Linux: workers that read and send many packets in one system call, and never wait for
// anything but packets.
//
//	          SO_REUSEPORT                ┌── index, tables: read without a lock
//	clients ──────────────▶ worker ◀──────┘      ▲
//	                         │   ▲               │ publishes
//	          relay sockets ─┘   │           control
//	                  requests   └─ answers      ▲
//	                         └────▶ receiver ────┘
//
// There is one worker until it has enough to do: packets gather where one thread serves them all, and each system call
// does more. Any worker may serve any client and send from any relay socket, so that nothing moves when there is one
// worker more or fewer; only who reads from what is divided up. A worker that is not needed any more rests: it waits as
// long as nothing comes to it, and goes on when there is more to do.
type batchedCarrier struct {
	server *Server
	at     netip.AddrPort
	trains bool // GRO
	slots  []atomic.Pointer[relaySocket]

	requests chan *queuedRequest // to the receiver
	free     chan *queuedRequest

	stopping atomic.Bool
	stopped  chan struct{}
	failed   chan error
	running  sync.WaitGroup
	shown    atomic.Pointer[[]*worker] // for metrics

	workers []*worker // guarded by control.mu
	active  int       // guarded by control.mu: so many of workers do not rest
	spare   []int     // guarded by control.mu: slots
	serving bool      // guarded by control.mu
	full    int       // guarded by control.mu: seconds in which all active workers were
	idle    int       // guarded by control.mu: seconds in which there were too many
}

// A queuedRequest is a STUN message on its way to the receiver.
type queuedRequest struct {
	from   source
	n      int
	packet [longestRequest]byte
}

func openCarrier(s *Server, at netip.AddrPort) (carrier, error) {
	if s.cfg.Portable {
		return openPortable(s, at)
	}
	b, err := openBatched(s, at)
	var bind *net.OpError
	switch {
	case err == nil:
		return b, nil
	case errors.As(err, &bind):
		return nil, err
	}
	// A sandbox that does not know the calls, perhaps.
	s.log.Warn("relay makes do with plain sockets", "err", err)
	return openPortable(s, at)
}

func openBatched(s *Server, at netip.AddrPort) (*batchedCarrier, error) {
	// Room for both families.
	slots := 2*s.cfg.MaxAllocations + firstSlot
	b := &batchedCarrier{
		server: s, at: at, slots: make([]atomic.Pointer[relaySocket], slots),
		requests: make(chan *queuedRequest, requestQueue), free: make(chan *queuedRequest, requestQueue),
		stopped: make(chan struct{}), failed: make(chan error, s.cfg.Workers),
	}
	for i := slots - 1; i >= firstSlot; i-- {
		b.spare = append(b.spare, i)
	}
	for range requestQueue {
		b.free <- new(queuedRequest)
	}
	w, err := newWorker(b, 0)
	if err != nil {
		return nil, err
	}
	b.workers, b.active = []*worker{w}, 1
	b.show()
	s.metrics.load = b.load
	return b, nil
}

func (b *batchedCarrier) show() {
	list := append([]*worker(nil), b.workers...)
	b.shown.Store(&list)
}

func (b *batchedCarrier) load() []float64 {
	var list []float64
	for _, w := range *b.shown.Load() {
		list = append(list, float64(w.load.Load())/1000)
	}
	return list
}

func (b *batchedCarrier) serve() error {
	c := b.server.control
	c.mu.Lock()
	b.serving = true
	for _, w := range b.workers {
		b.startLocked(w)
	}
	c.mu.Unlock()
	var answering sync.WaitGroup
	answering.Go(b.answer)
	var err error
	select {
	case <-b.stopped:
	case err = <-b.failed:
		b.stop()
	}
	b.running.Wait()
	close(b.requests)
	answering.Wait()
	return err
}

func (b *batchedCarrier) startLocked(w *worker) {
	// A worker that waits for the kernel keeps its processor: there must be another one.
	if runtime.GOMAXPROCS(0) < len(b.workers)+1 {
		runtime.GOMAXPROCS(len(b.workers) + 1)
	}
	b.running.Go(func() {
		if err := w.run(); err != nil {
			b.failed <- err
		}
	})
}

// answer is the goroutine in which requests are answered.
func (b *batchedCarrier) answer() {
	r := &receiver{server: b.server}
	for q := range b.requests {
		r.answer(q.packet[:q.n], q.from, nil, b.server.now())
		b.free <- q
	}
}

func (b *batchedCarrier) stop() {
	if b.stopping.Swap(true) {
		return
	}
	for _, w := range *b.shown.Load() {
		w.wake()
	}
	close(b.stopped)
}

func (b *batchedCarrier) finish() {
	for _, w := range *b.shown.Load() {
		w.free()
	}
}

func (b *batchedCarrier) open(s *relaySocket, at netip.AddrPort) error {
	if len(b.spare) == 0 {
		return unix.ENFILE
	}
	fd, _, err := bindUDP(at, false, relayBuffer)
	if err != nil {
		return err
	}
	if b.trains {
		wantGRO(fd)
	}
	s.slot = b.spare[len(b.spare)-1]
	s.fd.number = fd
	s.fd.users.Store(1)
	b.slots[s.slot].Store(s)
	if err := b.reader(s).watch(fd, s.slot); err != nil {
		b.slots[s.slot].Store(nil)
		s.fd.release()
		return err
	}
	b.spare = b.spare[:len(b.spare)-1]
	return nil
}

// reader is the worker that reads from s.
func (b *batchedCarrier) reader(s *relaySocket) *worker { return b.workers[s.slot%b.active] }

func (b *batchedCarrier) close(s *relaySocket) {
	b.slots[s.slot].Store(nil)
	b.spare = append(b.spare, s.slot)
	b.reader(s).unwatch(s.fd.number)
	b.server.metrics.drops[dropOverflow].Add(uint64(overflowed(s.fd.number)))
	s.fd.release()
}

// tend measures the workers' load, adds one when all are full, and lets one rest when the others can do its part.
func (b *batchedCarrier) tend(seconds float64) {
	if !b.serving || b.stopping.Load() || seconds <= 0 {
		return
	}
	least, sum := 1.0, 0.0
	for i, w := range b.workers {
		busy := w.busy.Load()
		load := min(float64(busy-w.seen)/1e9/seconds, 1)
		w.seen = busy
		w.load.Store(int64(load * 1000))
		overflow := overflowed(w.fd)
		w.drops[dropOverflow].Add(uint64(overflow - w.overflow))
		w.overflow = overflow
		if i < b.active {
			least = min(least, load)
		}
		sum += load
	}
	if b.full++; least < fullLoad {
		b.full = 0
	}
	if b.idle++; b.active == 1 || sum > restLoad*float64(b.active-1) {
		b.idle = 0
	}
	var err error
	switch {
	case b.full >= fullFor && b.active < b.server.cfg.Workers:
		b.full = 0
		err = b.grow()
	case b.idle >= restFor:
		b.idle = 0
		err = b.divide(b.active - 1)
	}
	if err != nil {
		b.server.log.Warn("relay cannot change the number of its workers", "err", err)
	}
}

// grow makes one more worker active: a new one, if none rests.
func (b *batchedCarrier) grow() error {
	if b.active == len(b.workers) {
		w, err := newWorker(b, len(b.workers))
		if err != nil {
			return err
		}
		b.workers = append(b.workers, w)
		b.show()
		b.startLocked(w)
	}
	return b.divide(b.active + 1)
}

// divide makes the first n workers share what is to be read. For a moment two may read from one socket, which does no
// harm; one that rests from now on reads what its own has already got.
func (b *batchedCarrier) divide(n int) error {
	if err := steer(b.workers[0].fd, n); err != nil {
		return err
	}
	before := b.active
	b.active = n
	for i := range b.slots {
		s := b.slots[i].Load()
		if s == nil {
			continue
		}
		from, to := b.workers[i%before], b.reader(s)
		if from == to {
			continue
		}
		from.unwatch(s.fd.number)
		if err := to.watch(s.fd.number, i); err != nil {
			b.server.log.Warn("relay cannot read on from a relayed address", "err", err)
		}
	}
	b.server.log.Info("relay divides its work anew", "workers", n)
	return nil
}

func (b *batchedCarrier) toClient(to *endpoint, packet []byte) {
	w := (*b.shown.Load())[0]
	b.sendTo(w.fd, w.v6, to, packet)
}

func (b *batchedCarrier) toPeer(s *relaySocket, to *endpoint, payload []byte, whole bool) {
	if !s.fd.acquire() {
		b.server.metrics.drops.count(dropGone)
		return
	}
	if whole { // as rare as it is slow; a packet that another thread sends meanwhile may be whole, too
		fragment(s.fd.number, s.family == 6, true)
	}
	b.sendTo(s.fd.number, s.family == 6, to, payload)
	if whole {
		fragment(s.fd.number, s.family == 6, false)
	}
	s.fd.release()
}

func (b *batchedCarrier) sendTo(fd int, v6 bool, to *endpoint, packet []byte) {
	var raw rawAddress
	n := raw.put(to, v6)
	if to.local != 0 {
		b.sendFrom(fd, v6, to, packet)
		return
	}
	_, _, no := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(packet))),
		uintptr(len(packet)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&raw)), uintptr(n))
	if no != 0 {
		b.server.metrics.drops.count(dropFor(no))
	}
}

// sendFrom sends from the address of ours that to talks to.
func (b *batchedCarrier) sendFrom(fd int, v6 bool, to *endpoint, packet []byte) {
	var raw rawAddress
	var control [controlSpace]byte
	iov := unix.Iovec{Base: unsafe.SliceData(packet)}
	iov.SetLen(len(packet))
	m := unix.Msghdr{Name: &raw[0], Namelen: raw.put(to, v6), Iov: &iov, Control: &control[0]}
	m.SetIovlen(1)
	m.SetControllen(putLocal(control[:], v6, b.server.router.locals.ip(to.local)))
	_, _, no := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if no != 0 {
		b.server.metrics.drops.count(dropFor(no))
	}
}
