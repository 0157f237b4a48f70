package relay

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	// longestTrain is what GRO joins, and GSO cuts up, at most: a UDP datagram.
	longestTrain = 1<<16 - 1
	// mostSegments is of one system call; kernels before 6.9 take 64.
	mostSegments = 64
	// trainStride is no power of two: buffers would share the same few lines of the processor's caches.
	trainStride = 1<<16 + 5*64
	// singleStride is where the kernel joins nothing.
	singleStride = wire.DataHeaderSize + longestPacket

	// controlSpace is for what the kernel says of a message and what we say to it: the size of segments, the octet with the
	// ECN bits, our own address.
	controlSpace = 96
)

type multiMessage struct {
	unix.Msghdr
	length uint32
}

// A receiveBatch receives many messages in one system call. Each buffer has room before the message for what is written
// there when it goes down.
type receiveBatch struct {
	messages []multiMessage
	iovs     []unix.Iovec
	names    []rawAddress
	controls [][controlSpace]byte
	memory   []byte
	stride   int
}

func newReceiveBatch(n int, trains bool) (*receiveBatch, error) {
	in := &receiveBatch{
		messages: make([]multiMessage, n), iovs: make([]unix.Iovec, n), names: make([]rawAddress, n),
		controls: make([][controlSpace]byte, n), stride: singleStride,
	}
	if trains {
		in.stride = trainStride
	}
	var err error
	if in.memory, err = mapMemory(n * in.stride); err != nil {
		return nil, err
	}
	for i := range n {
		b := in.buffer(i)[wire.DataHeaderSize:]
		in.iovs[i].Base = &b[0]
		in.iovs[i].SetLen(min(len(b), longestTrain))
		m := &in.messages[i]
		m.Name, m.Iov, m.Control = &in.names[i][0], &in.iovs[i], &in.controls[i][0]
		m.SetIovlen(1)
	}
	in.reset(n)
	return in, nil
}

func (in *receiveBatch) free() { _ = unix.Munmap(in.memory) }

func (in *receiveBatch) buffer(i int) []byte {
	return in.memory[i*in.stride : (i+1)*in.stride : (i+1)*in.stride]
}

// reset makes the first n messages fit to be received into.
func (in *receiveBatch) reset(n int) {
	for i := range n {
		m := &in.messages[i]
		m.Namelen = uint32(len(in.names[i]))
		m.SetControllen(controlSpace)
	}
}

// receive takes what there is, at most n messages, into those from the i-th on.
func (in *receiveBatch) receive(fd, i, n int) (int, syscall.Errno) {
	got, _, no := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.messages[i])), uintptr(n),
		unix.MSG_DONTWAIT, 0, 0)
	if no != 0 {
		return 0, no
	}
	return int(got), 0
}

// cut returns the length of the i-th message, that of its segments, and its ECN bits, and sets local to the address of ours
// to which it came, if the socket tells. It fails if the message did not fit.
func (in *receiveBatch) cut(i int, local *[16]byte) (length, segment int, ecn byte, ok bool) {
	m := &in.messages[i]
	*local = [16]byte{}
	if m.Flags&unix.MSG_TRUNC != 0 {
		return 0, 0, 0, false
	}
	length, segment = int(m.length), int(m.length)
	const header = unix.SizeofCmsghdr
	for b := in.controls[i][:min(int(m.Controllen), controlSpace)]; len(b) > header; {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		n := int(h.Len)
		if n < header || n > len(b) {
			break
		}
		value := b[header:n]
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(value) >= 4:
			if n := int(binary.NativeEndian.Uint32(value)); n > 0 {
				segment = n
			}
		case h.Level == unix.SOL_IP && h.Type == unix.IP_TOS && len(value) >= 1:
			ecn = value[0] & 3
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_TCLASS && len(value) >= 4:
			ecn = byte(binary.NativeEndian.Uint32(value)) & 3
		default:
			localOf(h, value, local)
		}
		b = b[min(len(b), cmsgAlign(n)):]
	}
	return length, segment, ecn, true
}

func cmsgAlign(n int) int { return unix.CmsgSpace(n) - unix.CmsgSpace(0) }

// A sendBatch gathers what one socket is to send and sends it in as few system calls as can be: packets of one size that
// follow each other to one address become segments of one message, and all messages go in one call.
type sendBatch struct {
	v6       bool // of the socket
	locals   *locals
	gso      *gso
	flow     *flow
	drops    *drops
	messages []multiMessage
	trains   []train
	names    []rawAddress
	controls [][controlSpace]byte
	iovs     []unix.Iovec
	headers  [][wire.DataHeaderSize]byte
	n        int // messages
	iov      int // pieces
	header   int // headers
}

// A train is what one message is made of.
type train struct {
	to       endpoint
	segment  int // the size of all packets but the last, which may be shorter
	total    int
	packets  int
	pieces   int
	ecn      byte
	complete bool // by a shorter packet, or because its pieces stand alone
}

// gso remembers whether the kernel can cut a message into segments: a device that cannot, refuses.
type gso struct{ off bool }

const piecesOfPacket = 3 // header, payload, padding

func newSendBatch(packets int, v6 bool, l *locals, g *gso, f *flow, d *drops) *sendBatch {
	o := &sendBatch{
		v6: v6, locals: l, gso: g, flow: f, drops: d,
		messages: make([]multiMessage, packets), trains: make([]train, packets), names: make([]rawAddress, packets),
		controls: make([][controlSpace]byte, packets), iovs: make([]unix.Iovec, piecesOfPacket*packets),
		headers: make([][wire.DataHeaderSize]byte, packets),
	}
	for i := range o.messages {
		o.messages[i].Name = &o.names[i][0]
	}
	return o
}

// room is for how many more packets there is surely place.
func (o *sendBatch) room() int { return len(o.messages) - max(o.n, o.header, o.iov/piecesOfPacket) }

// begin says that a packet of so many bytes comes, whose pieces follow. Room must have been asked for.
func (o *sendBatch) begin(to *endpoint, size int, ecn byte) *train {
	if o.n > 0 {
		r := &o.trains[o.n-1]
		if !o.gso.off && !r.complete && r.to == *to && r.ecn == ecn && size <= r.segment && r.packets < mostSegments &&
			r.total+size <= longestPayload {
			r.packets++
			r.total += size
			r.complete = size < r.segment
			return r
		}
	}
	r := &o.trains[o.n]
	*r = train{to: *to, segment: size, total: size, packets: 1, ecn: ecn, complete: size == 0}
	m := &o.messages[o.n]
	m.Iov = &o.iovs[o.iov]
	m.Namelen = o.names[o.n].put(to, o.v6)
	o.n++
	return r
}

func (o *sendBatch) piece(r *train, b []byte) {
	v := &o.iovs[o.iov]
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
	o.iov++
	r.pieces++
}

// addPayload is for a packet to a TURN peer.
func (o *sendBatch) addPayload(to *endpoint, payload []byte, ecn byte) {
	o.piece(o.begin(to, len(payload), ecn), payload)
}

var padding [4]byte

// addFramed is for a packet to a client: n bytes of payload, which begins in b at at, with room before it that may be
// written to.
func (o *sendBatch) addFramed(d *delivery, b []byte, at, n, room int, ecn byte) {
	header := wire.ChannelHeaderSize
	pad := 0
	if d.channel == 0 {
		header, pad = wire.DataHeaderSize, -n&3
		if d.peer.Is4() {
			header -= 12
		}
	}
	r := o.begin(&d.to.source.endpoint, header+n+pad, ecn)
	if room >= header {
		appendHeader(b[at-header:at-header], d, n)
		o.piece(r, b[at-header:at+n])
	} else {
		h := o.headers[o.header][:0]
		o.header++
		o.piece(r, appendHeader(h, d, n))
		if n > 0 {
			o.piece(r, b[at:at+n])
		}
	}
	if pad > 0 {
		o.piece(r, padding[:pad])
	}
}

// flush sends all and is empty again. Nothing waits: what the socket has no room for is dropped.
func (o *sendBatch) flush(fd int) {
	if o.n == 1 && o.trains[0].pieces == 1 && o.trains[0].ecn == 0 && o.trains[0].to.local == 0 {
		o.one(fd) // the kernel reads a message's description for some 0.2 µs
		return
	}
	for i := range o.n {
		o.seal(i)
	}
	for i := 0; i < o.n; {
		sent, _, no := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.messages[i])),
			uintptr(o.n-i), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if no == 0 {
			for range sent {
				if o.trains[i].packets > 1 {
					o.flow.grouped.Add(uint64(o.trains[i].packets))
				}
				i++
			}
			continue
		}
		r := &o.trains[i]
		switch {
		case no == unix.EINTR:
			continue
		case r.packets > 1 && (no == unix.EIO || no == unix.EINVAL || no == unix.EMSGSIZE):
			// EIO: the device of this route computes no checksums. EINVAL, or EMSGSIZE of newer kernels: the packets are too long
			// for the path, and one by one they are fragmented. Where they fit any path, this kernel has something against segments
			// as such.
			works := o.singly(fd, i)
			o.gso.off = o.gso.off || no == unix.EIO || works && r.segment <= fitsAnyPath
		default:
			o.drops[dropFor(no)].Add(uint64(r.packets))
		}
		i++
	}
	o.n, o.iov, o.header = 0, 0, 0
}

// fitsAnyPath is the payload of UDP in the shortest packet that each IPv6 link carries (RFC 8200 §5).
const fitsAnyPath = 1280 - 40 - 8

// one sends what is one packet in one piece.
func (o *sendBatch) one(fd int) {
	m := &o.messages[0]
	_, _, no := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(m.Iov.Base)), uintptr(m.Iov.Len),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(m.Name)), uintptr(m.Namelen))
	if no != 0 {
		o.drops.count(dropFor(no))
	}
	o.n, o.iov, o.header = 0, 0, 0
}

// dropFor is why the kernel did not send a packet.
func dropFor(no syscall.Errno) cause {
	switch no {
	case unix.EAGAIN, unix.ENOBUFS:
		return dropFull
	case unix.EMSGSIZE:
		return dropLength
	}
	return dropFailed
}

// seal writes what stands beside the i-th message: the size of its segments, its ECN bits.
func (o *sendBatch) seal(i int) {
	r, m := &o.trains[i], &o.messages[i]
	m.SetIovlen(r.pieces)
	used := 0
	if r.packets > 1 {
		used = o.control(i, used, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(o.controls[i][unix.CmsgLen(0):], uint16(r.segment))
	}
	if r.ecn != 0 {
		level, kind := int32(unix.SOL_IPV6), int32(unix.IPV6_TCLASS)
		if r.to.Is4() {
			level, kind = unix.SOL_IP, unix.IP_TOS
		}
		at := used + unix.CmsgLen(0)
		used = o.control(i, used, level, kind, 4)
		binary.NativeEndian.PutUint32(o.controls[i][at:], uint32(r.ecn))
	}
	if r.to.local != 0 {
		used += putLocal(o.controls[i][used:], o.v6, o.locals.ip(r.to.local))
	}
	m.Control = nil
	if used > 0 {
		m.Control = &o.controls[i][0]
	}
	m.SetControllen(used)
}

func (o *sendBatch) control(i, at int, level, kind int32, n int) (end int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&o.controls[i][at]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(n))
	return at + unix.CmsgSpace(n)
}

// singly sends the packets of the i-th message one by one and tells whether that works. It happens so rarely that
// nothing of it needs be quick.
func (o *sendBatch) singly(fd, i int) (works bool) {
	r := o.trains[i]
	pieces := unsafe.Slice(o.messages[i].Iov, r.pieces)
	m := o.messages[i].Msghdr
	o.trains[i].packets = 1
	o.seal(i)
	m.Control, m.Controllen = o.messages[i].Control, o.messages[i].Controllen
	works = true
	for range r.packets {
		size, k := 0, 0
		for k < len(pieces) && size < r.segment {
			size += int(pieces[k].Len)
			k++
		}
		// Padding belongs to what it pads.
		m.Iov = &pieces[0]
		m.SetIovlen(k)
		_, _, no := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if no != 0 {
			o.drops.count(dropFor(no))
			works = false
		}
		if pieces = pieces[k:]; len(pieces) == 0 {
			break
		}
	}
	return works
}
