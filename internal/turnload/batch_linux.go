package turnload

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mmsghdr is that of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
}

// A batch is several datagrams that are handed to or from the kernel at once.
type batch struct {
	buffer   []byte
	messages []mmsghdr
	vectors  []unix.Iovec
	controls []control
	segment  control
}

// A control has room for one control message: the time of arrival, or the length of GSO's segments.
type control struct {
	_    [0]uint64 // the kernel's alignment
	data [64]byte
}

var timestampSpace = unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{})))

// newBatch has room for n datagrams of size bytes.
func newBatch(n, size int) batch {
	b := batch{buffer: make([]byte, n*size), messages: make([]mmsghdr, n), vectors: make([]unix.Iovec, n)}
	b.pack(n, size, false)
	return b
}

// pack makes n datagrams of size bytes out of the buffer; a train is one that the kernel is to cut.
func (b *batch) pack(n, size int, train bool) {
	if train {
		b.vectors[0].Base = &b.buffer[0]
		b.vectors[0].SetLen(n * size)
		m := &b.messages[0]
		m.Iov = &b.vectors[0]
		m.SetIovlen(1)
		m.Control, m.Controllen = nil, 0
		if n > 1 {
			h := (*unix.Cmsghdr)(unsafe.Pointer(&b.segment.data))
			h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
			h.SetLen(unix.CmsgLen(2))
			binary.NativeEndian.PutUint16(b.segment.data[unix.CmsgLen(0):], uint16(size))
			m.Control = &b.segment.data[0]
			m.SetControllen(unix.CmsgSpace(2))
		}
		return
	}
	for i := range n {
		b.vectors[i].Base = &b.buffer[i*size]
		b.vectors[i].SetLen(size)
		b.messages[i].Iov = &b.vectors[i]
		b.messages[i].SetIovlen(1)
	}
}

// addControl gives each message room for its time of arrival.
func (b *batch) addControl() {
	b.controls = make([]control, len(b.messages))
	for i := range b.messages {
		b.messages[i].Control = &b.controls[i].data[0]
	}
}

// send hands over the first n datagrams and returns how many the kernel took.
func (b *batch) send(fd, n int, train bool) int {
	messages := n
	if train {
		messages = 1
	}
	done, refused := 0, false
	for done < messages {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[done])),
			uintptr(messages-done), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			done += int(sent)
			continue
		case errors.Is(errno, unix.EINTR):
			continue
		case errors.Is(errno, unix.ECONNREFUSED) && !refused:
			refused = true // ICMP's word on an earlier packet
			continue
		}
		break
	}
	if train {
		return done * n
	}
	return done
}

// receive takes what has arrived, and returns how many datagrams that is.
func (b *batch) receive(fd int) int {
	for i := range b.messages {
		b.messages[i].SetControllen(timestampSpace)
	}
	for {
		// With MSG_TRUNC a message tells the length that it had.
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[0])),
			uintptr(len(b.messages)), unix.MSG_DONTWAIT|unix.MSG_TRUNC, 0, 0)
		switch {
		case errno == 0:
			return int(n)
		case errors.Is(errno, unix.EINTR):
			continue
		}
		return 0 // there is nothing, or ICMP's word on a packet that was sent
	}
}

// message is one of those received: what fits the buffer, its length, and when it arrived (ns of the machine's clock).
func (b *batch) message(i int) (data []byte, length int, arrived int64) {
	m := &b.messages[i]
	length = int(m.length)
	space := len(b.buffer) / len(b.messages)
	data = b.buffer[i*space:][:min(length, space)]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.controls[i].data))
	if int(m.Controllen) >= unix.CmsgLen(0) && h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS {
		t := (*unix.Timespec)(unsafe.Pointer(&b.controls[i].data[unix.CmsgLen(0)]))
		arrived = t.Nano()
	}
	return data, length, arrived
}
