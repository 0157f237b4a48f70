package relay

import (
	"encoding/binary"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setsDF says that DONT-FRAGMENT can be had (RFC 8656 §14).
const setsDF = true

// wantLocal has the kernel tell, with each message, to which address of ours it came.
func wantLocal(fd int, v6 bool) {
	if v6 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1) // of IPv4, too
		return
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
}

// fragment lets what a socket sends be fragmented, or not.
//
// IPv4: OMIT sets no DF, so that routers fragment, and heeds no ICMP message about the path, which anybody could send.
// IPv6: routers do not fragment, so that "packet too big" has to be heeded: DONT has the kernel fragment for the path that
// it knows, which no message makes narrower than 1280 bytes.
// Whole: PROBE sets DF, and what is too long for the interface fails.
func fragment(fd int, v6, whole bool) {
	four, six := unix.IP_PMTUDISC_OMIT, unix.IPV6_PMTUDISC_DONT
	if whole {
		four, six = unix.IP_PMTUDISC_PROBE, unix.IPV6_PMTUDISC_PROBE
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, four)
	if v6 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, six)
	}
}

// localOf reads, from one control message, to which address of ours a message came.
func localOf(h *unix.Cmsghdr, value []byte, local *[16]byte) {
	switch {
	case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(value) >= unix.SizeofInet4Pktinfo:
		*local = [16]byte{10: 0xff, 11: 0xff, 12: value[4], 13: value[5], 14: value[6], 15: value[7]}
	case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(value) >= unix.SizeofInet6Pktinfo:
		copy(local[:], value)
	}
}

// putLocal writes a control message that has a socket of a family send from local, and returns its length.
func putLocal(b []byte, v6 bool, local *[16]byte) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	value := b[unix.CmsgLen(0):]
	if v6 {
		h.Level, h.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		copy(value, local[:])
		binary.NativeEndian.PutUint32(value[16:], 0)
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	h.Level, h.Type = unix.SOL_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	clear(value[:unix.SizeofInet4Pktinfo])
	copy(value[4:8], local[12:])
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}

// The same for the portable carrier.

const oobSpace = controlSpace

// prepare sets what bindUDP does for the other carrier.
func prepare(conn *net.UDPConn, v6, wildcard bool) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			fragment(int(fd), v6, false)
			if wildcard {
				wantLocal(int(fd), v6)
			}
		})
	}
}

// whole calls f while what conn sends is not fragmented.
func whole(conn *net.UDPConn, v6 bool, f func()) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { fragment(int(fd), v6, true) })
	f()
	_ = raw.Control(func(fd uintptr) { fragment(int(fd), v6, false) })
}

func localIn(oob []byte) (local [16]byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return local
	}
	for i := range messages {
		localOf((*unix.Cmsghdr)(unsafe.Pointer(&messages[i].Header)), messages[i].Data, &local)
	}
	return local
}
