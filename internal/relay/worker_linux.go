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
	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	fromClients = 64  // messages in one call
	fromPeers   = 16  // messages in one call, from one relay socket
	peersRound  = 256 // messages from all relay sockets before what they became is sent

	// Slots of what is no relay socket.
	slotClients = 0
	slotWake    = 1
	firstSlot   = 2

	// quiet is how long a worker waits as if it were computing: a thread that enters and leaves the kernel by the front
	// door each time costs the runtime more than the packet does. Only after that it waits as goroutines do.
	quiet = 5 * time.Millisecond
)

// A worker reads what clients send to its socket and what arrives at its relay sockets, asks the router, and sends. In
// the loop it takes no lock, and no memory.
type worker struct {
	carrier *batched
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
	clients *inbox
	peers   *inbox
	next    int        // of peers: the first that holds nothing which is still to be sent
	out     *outbox    // to clients
	up      [2]*outbox // to TURN peers from one relay socket at a time: IPv4, IPv6
	unread  []int      // slots
	again   []int
	upward  []upward
	firsts  []int // of upward: the first of each relay socket
	last    []int // by slot: the last one of upward that is from there, if it is from there
	lastKey endpoint
	lastOne *allocation
	now     int64
	gso     gso
}

// An upward packet waits for others that leave from the same relay socket.
type upward struct {
	via     *relaySocket
	to      endpoint
	payload []byte
	ecn     byte
	next    int // of the same relay socket; 0 is none, for it is never the second
}

// upwardRoom is what of a round is sorted; after that many packets it is sent.
const upwardRoom = 4 * mostSegments

func newWorker(b *batched, number int) (_ *worker, err error) {
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
	if w.clients, err = newInbox(fromClients, b.trains); err != nil {
		return nil, err
	}
	if w.peers, err = newInbox(peersRound, b.trains); err != nil {
		return nil, err
	}
	w.out = newOutbox(2*peersRound, w.v6, w.router.locals, &w.gso, s.control.router.flow, w.drops)
	for i := range w.up {
		w.up[i] = newOutbox(upwardRoom, i == 1, w.router.locals, &w.gso, s.control.router.flow, w.drops)
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
	for _, in := range []*inbox{w.clients, w.peers} {
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
	for _, o := range []*outbox{w.out, w.up[0], w.up[1]} {
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

// send ends a round: reading and sending by turns would wake receivers more often. Afterwards the buffers are free.
func (w *worker) send() {
	w.sendUp()
	w.sendDown()
}

// sendDown sends what is for clients, and frees the buffers of relay sockets.
func (w *worker) sendDown() {
	if w.out.n > 0 {
		w.out.flush(w.fd)
	}
	w.peers.reset(w.next)
	w.next = 0
}

// readClients reads once and tells whether there may be more: a call that is not filled means that there is nothing.
func (w *worker) readClients() (more bool) {
	n, no := w.clients.receive(w.fd, 0, fromClients)
	if no != 0 {
		return passing(no)
	}
	var from endpoint
	var local [16]byte
	for i := range n {
		length, segment, ecn, ok := w.clients.cut(i, &local)
		switch {
		case !ok:
			w.drops.count(dropLength)
			continue
		case length == 0:
			w.drops.count(dropShape)
			continue
		}
		w.clients.names[i].take(&from)
		from.local = w.router.locals.number(&local)
		b := w.clients.buffer(i)
		for at := wire.DataHeaderSize; at < wire.DataHeaderSize+length; at += segment {
			w.fromClient(&from, b, at, min(segment, wire.DataHeaderSize+length-at), ecn)
		}
	}
	w.clients.reset(n)
	return n == fromClients
}

// passing tells whether a socket that could not be read from is worth another try, beside the one when something new is
// there.
func passing(no unix.Errno) bool {
	switch no {
	case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOBUFS, unix.ENOMEM:
		return true
	}
	return false
}

// fromClient is for a packet of n bytes, which begins in b at at.
func (w *worker) fromClient(from *endpoint, b []byte, at, n int, ecn byte) {
	packet := b[at : at+n]
	var d delivery
	var payload []byte
	var why cause
	var whole bool
	switch {
	case wire.IsChannelData(packet):
		a := w.client(from)
		if a == nil {
			w.drops.count(dropUnknown)
			return
		}
		var number uint16
		number, payload = wire.ChannelData(packet)
		at += wire.ChannelHeaderSize
		why = w.router.channelData(a, number, payload, w.now, &d)
	case !wire.IsSTUN(packet):
		w.drops.count(dropShape)
		return
	case wire.Message(packet).Type() == wire.SendIndication:
		a := w.client(from)
		if a == nil {
			w.drops.count(dropUnknown)
			return
		}
		sent, ok := wire.ParseSend(packet)
		if !ok {
			w.drops.count(dropShape)
			return
		}
		payload, whole = sent.Payload, sent.DontFragment
		at += int(uintptr(unsafe.Pointer(unsafe.SliceData(payload))) - uintptr(unsafe.Pointer(unsafe.SliceData(packet))))
		why = w.router.send(a, &endpoint{Address: sent.Peer}, payload, w.now, &d)
	default:
		w.question(from, packet)
		return
	}
	switch {
	case why != none:
		w.drops.count(why)
	case d.via != nil && whole:
		w.sendUp() // what came before
		w.carrier.toPeer(d.via, &d.peer, payload, true)
	case d.via != nil:
		w.rise(d.via, &d.peer, payload, ecn)
	default:
		w.descend(&d, b, at, len(payload), wire.ChannelHeaderSize, ecn)
	}
}

// client remembers the last one: packets come in trains.
func (w *worker) client(from *endpoint) *allocation {
	if w.lastOne == nil || w.lastKey != *from || w.lastOne.ended.Load() {
		w.lastKey, w.lastOne = *from, w.router.clients.find(from)
	}
	return w.lastOne
}

// question hands a request to the door, or drops it if it is not admitted or the door has enough to do.
func (w *worker) question(from *endpoint, packet []byte) {
	c := w.carrier
	if len(packet) > longestRequest {
		w.drops.count(dropLength)
		return
	}
	src := source{*from, overUDP}
	if why := c.server.control.admit(packet, &src, nil, w.now); why != none {
		w.drops.count(why)
		return
	}
	if len(c.free) < reserved && w.client(from) == nil {
		w.drops.count(dropBusy)
		return
	}
	select {
	case q := <-c.free:
		q.from = src
		q.n = copy(q.packet[:], packet)
		c.ask <- q // there is room for all of them
	default:
		w.drops.count(dropBusy)
	}
}

// readPeers does the same with a relay socket, which may be gone by now.
func (w *worker) readPeers(slot int) (more bool) {
	s := w.carrier.slots[slot].Load()
	if s == nil || !s.fd.acquire() {
		return false
	}
	defer s.fd.release()
	if peersRound-w.next < fromPeers {
		w.sendDown()
	}
	first := w.next
	got, no := w.peers.receive(s.fd.number, first, fromPeers)
	if no != 0 {
		return passing(no)
	}
	w.next += got
	var from endpoint
	var local [16]byte // nothing: relay sockets do not tell
	for i := first; i < first+got; i++ {
		length, segment, ecn, ok := w.peers.cut(i, &local)
		if !ok {
			w.drops.count(dropLength)
			continue
		}
		w.peers.names[i].take(&from)
		b := w.peers.buffer(i)
		for at, room := wire.DataHeaderSize, wire.DataHeaderSize; ; room = 0 {
			n := min(segment, wire.DataHeaderSize+length-at)
			var d delivery
			if why := w.router.down(s, &from, false, b[at:at+n], w.now, &d); why != none {
				w.drops.count(why)
			} else {
				w.descend(&d, b, at, n, room, ecn)
			}
			if at += max(segment, 1); at >= wire.DataHeaderSize+length {
				break
			}
		}
	}
	return got == fromPeers
}

// descend is for n bytes, which begin in b at at, to a client.
func (w *worker) descend(d *delivery, b []byte, at, n, room int, ecn byte) {
	if st := d.to.stream; st != nil {
		var header [wire.DataHeaderSize]byte
		st.write(appendHeader(header[:0], d, n), b[at:at+n], false)
		return
	}
	if w.out.room() == 0 {
		w.out.flush(w.fd)
	}
	w.out.addFramed(d, b, at, n, room, ecn)
}

// rise is for a packet to a TURN peer.
func (w *worker) rise(via *relaySocket, to *endpoint, payload []byte, ecn byte) {
	if len(w.upward) == upwardRoom {
		w.sendUp()
	}
	i := len(w.upward)
	w.upward = append(w.upward, upward{via: via, to: *to, payload: payload, ecn: ecn})
	if j := w.last[via.slot]; j < i && w.upward[j].via == via {
		w.upward[j].next = i
	} else {
		w.firsts = append(w.firsts, i)
	}
	w.last[via.slot] = i
}

// sendUp sends what is for TURN peers, one relay socket after the other.
func (w *worker) sendUp() {
	for _, i := range w.firsts {
		via := w.upward[i].via
		if !via.fd.acquire() {
			w.lose(i)
			continue
		}
		w.sendFrom(via, i)
	}
	w.upward, w.firsts = w.upward[:0], w.firsts[:0]
}

// sendFrom sends the i-th packet of upward and those that leave with it from the same relay socket, which is acquired.
func (w *worker) sendFrom(via *relaySocket, i int) {
	defer via.fd.release()
	o := w.up[0]
	if via.family == 6 {
		o = w.up[1]
	}
	for {
		u := &w.upward[i]
		o.addPayload(&u.to, u.payload, u.ecn)
		if i = u.next; i == 0 {
			break
		}
	}
	o.flush(via.fd.number)
}

// lose counts the i-th packet of upward and those that were to leave with it.
func (w *worker) lose(i int) {
	for {
		w.drops.count(dropGone)
		if i = w.upward[i].next; i == 0 {
			return
		}
	}
}
