package relay

import (
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/panics"
)

const (
	fromClients = 64  // messages in one call
	fromPeers   = 16  // messages in one call, from one relay socket
	peersRound  = 256 // messages from all relay sockets before what they became is sent

	// Slots of what is no relay socket.
	slotClients = 0
	slotWake    = 1
	firstSlot   = 2

	// quiet is how long a worker waits in raw system calls, of which the Go runtime is not told. Telling it of each call
	// costs more than the packet does. After this time without packets the worker waits as goroutines do.
	quiet = 5 * time.Millisecond
)

// A worker reads what clients send to its socket and what arrives at its relay sockets, asks the router, and sends. In
// the loop it takes no lock, and no memory.
type worker struct {
	carrier *batchedCarrier
	number  int
	router  *router
	drops   *drops
	fd      int // clients; shares its port with the other workers'
	v6      bool
	epoll   int
	eventfd int
	begin   time.Time // the server's

	busy     atomic.Int64 // ns that it did not wait, ever
	load     atomic.Int64 // of the last second, in thousandths
	seen     int64        // guarded by control.mu: busy at the last look
	overflow uint32       // guarded by control.mu: the socket's, at the last look

	// What follows is the loop's.
	events  [128]unix.EpollEvent
	taken   []unix.EpollEvent // those of this round
	clients *receiveBatch
	peers   *receiveBatch
	next    int           // of peers: the first that holds nothing which is still to be sent
	out     *sendBatch    // to clients
	up      [2]*sendBatch // to TURN peers from one relay socket at a time: IPv4, IPv6
	unread  []int         // slots
	again   []int
	upward  []upward
	firsts  []int // of upward: the first of each relay socket
	last    []int // by slot: the last one of upward that is from there, if it is from there
	lastKey endpoint
	lastOne *allocation
	now     int64
	gso     gso
}

func newWorker(b *batchedCarrier, number int) (_ *worker, err error) {
	s := b.server
	w := &worker{
		carrier: b, number: number, router: s.control.router, drops: &s.metrics.drops, begin: s.control.begin, fd: -1, epoll: -1, eventfd: -1,
		upward: make([]upward, 0, upwardRoom), firsts: make([]int, 0, upwardRoom),
		unread: make([]int, 0, 256), again: make([]int, 0, 256), last: make([]int, len(b.slots)),
	}
	defer func() {
		if err != nil {
			w.free()
		}
	}()
	if w.fd, w.v6, err = bindUDP(b.at, true, clientBuffer); err != nil {
		return nil, err
	}
	if number == 0 {
		b.trains = wantGRO(w.fd)
		if err := steer(w.fd, 1); err != nil {
			s.cfg.Workers = 1
			s.log.Info("relay stays with one worker", "err", err)
		}
	} else if b.trains {
		wantGRO(w.fd)
	}
	w.gso.off = !hasGSO(w.fd)
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if w.eventfd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err = w.watch(w.fd, slotClients); err != nil {
		return nil, err
	}
	if err = w.watch(w.eventfd, slotWake); err != nil {
		return nil, err
	}
	if w.clients, err = newReceiveBatch(fromClients, b.trains); err != nil {
		return nil, err
	}
	if w.peers, err = newReceiveBatch(peersRound, b.trains); err != nil {
		return nil, err
	}
	w.out = newSendBatch(2*peersRound, w.v6, w.router.locals, &w.gso, s.control.router.flow, w.drops)
	for i := range w.up {
		w.up[i] = newSendBatch(upwardRoom, i == 1, w.router.locals, &w.gso, s.control.router.flow, w.drops)
	}
	return w, nil
}

// free closes what newWorker opened. Nobody uses the worker any more.
func (w *worker) free() {
	for _, fd := range []int{w.fd, w.epoll, w.eventfd} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	for _, in := range []*receiveBatch{w.clients, w.peers} {
		if in != nil {
			in.free()
		}
	}
}

// watch may be called by anybody, as the other two: the kernel minds the rest. It tells of each socket only when
// something new is there; else it would look again at all that were read, each time before it waits.
func (w *worker) watch(fd, slot int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(slot)}))
}

func (w *worker) unwatch(fd int) { _ = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil) }

func (w *worker) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(w.eventfd, one[:])
}

// clock reads the monotonic clock alone: control.clock(time.Now()) would read two.
func (w *worker) clock() int64 { return int64(time.Since(w.begin)) }

func (w *worker) run() error {
	waiting := false
	for !w.carrier.stopping.Load() {
		if len(w.unread) > 0 {
			w.now = w.clock()
			w.readOn()
			w.busy.Add(w.clock() - w.now)
		}
		n, _, no := w.wait(waiting && len(w.unread) == 0)
		w.now = w.clock()
		switch {
		case no == unix.EINTR:
			runtime.Gosched() // it was the runtime that wants the thread to stop
		case no != 0:
			return os.NewSyscallError("epoll_pwait", no)
		case n == 0:
			waiting = len(w.unread) == 0
		default:
			waiting = false
			w.round(w.events[:n])
			if w.gathers() {
				w.busy.Add(w.clock() - w.now)
				w.pause()
				continue
			}
		}
		w.busy.Add(w.clock() - w.now)
	}
	return nil
}

func (w *worker) wait(calmly bool) (n, _ uintptr, no unix.Errno) {
	events, most := uintptr(unsafe.Pointer(&w.events[0])), uintptr(len(w.events))
	if calmly {
		return unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), events, most, ^uintptr(0), 0, 0)
	}
	timeout := uintptr(quiet.Milliseconds())
	if len(w.unread) > 0 {
		timeout = 0
	}
	return unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epoll), events, most, timeout, 0, 0)
}

// gathers tells whether packets may wait for others. Where some are left, more than enough have gathered: with a pause
// after each round a worker that has fallen behind reads too little to catch up, and its socket overflows.
func (w *worker) gathers() bool { return w.carrier.server.cfg.Coalesce > 0 && len(w.unread) == 0 }

func (w *worker) pause() {
	t := unix.NsecToTimespec(int64(w.carrier.server.cfg.Coalesce))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

func (w *worker) round(events []unix.EpollEvent) {
	w.taken = events
	defer w.survive()
	for i := range events {
		w.read(int(events[i].Fd))
	}
	w.send()
}

// readOn goes on with what the last round left unread.
func (w *worker) readOn() {
	w.again, w.unread = w.unread, w.again[:0]
	w.taken = nil
	defer w.survive()
	for _, slot := range w.again {
		w.read(slot)
	}
	w.send()
}

// survive ends a round that panicked. What it had read and not sent is lost. What it was to read is read in the next
// round: the kernel will not tell of it again.
func (w *worker) survive() {
	p := recover()
	if p == nil {
		return
	}
	panics.Report(w.carrier.server.log, inPacket, p)
	w.clients.reset(fromClients)
	w.peers.reset(peersRound)
	w.next, w.lastOne = 0, nil
	w.upward, w.firsts = w.upward[:0], w.firsts[:0]
	for _, o := range []*sendBatch{w.out, w.up[0], w.up[1]} {
		o.n, o.iov, o.header = 0, 0, 0
	}
	for i := range w.taken {
		w.again = append(w.again, int(w.taken[i].Fd))
	}
	for _, slot := range w.again {
		if slot != slotWake && !slices.Contains(w.unread, slot) {
			w.unread = append(w.unread, slot)
		}
	}
	w.again = w.again[:0]
}

func (w *worker) read(slot int) {
	more := false
	switch slot {
	case slotClients:
		more = w.readClients()
	case slotWake:
	default:
		more = w.readPeers(slot)
	}
	if more && !slices.Contains(w.unread, slot) {
		w.unread = append(w.unread, slot)
	}
}
