package relay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A descriptor is a socket that several goroutines use without a lock, while the control plane may close it: its
// number must not be another socket's as long as anybody is about to use it.
type descriptor struct {
	number int
	users  atomic.Int32 // 1 for being open
}

// acquire is false when the socket is closed; else release has to follow.
func (d *descriptor) acquire() bool {
	for {
		n := d.users.Load()
		if n == 0 {
			return false
		}
		if d.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (d *descriptor) release() {
	if d.users.Add(-1) == 0 {
		_ = unix.Close(d.number)
	}
}

// A rawAddress is a socket address as the kernel has it: sockaddr_in or sockaddr_in6.
type rawAddress [unix.SizeofSockaddrInet6]byte

// put writes e for a socket of a family and returns the length. An IPv6 socket takes IPv4 inside IPv6.
func (r *rawAddress) put(e *endpoint, v6 bool) uint32 {
	binary.BigEndian.PutUint16(r[2:], e.Port)
	if !v6 {
		binary.NativeEndian.PutUint16(r[:], unix.AF_INET)
		copy(r[4:8], e.IP[12:])
		clear(r[8:16])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(r[:], unix.AF_INET6)
	clear(r[4:8])
	copy(r[8:24], e.IP[:])
	clear(r[24:28])
	return unix.SizeofSockaddrInet6
}

func (r *rawAddress) take(e *endpoint) {
	e.Port = binary.BigEndian.Uint16(r[2:])
	if binary.NativeEndian.Uint16(r[:]) == unix.AF_INET {
		e.IP = [16]byte{10: 0xff, 11: 0xff, 12: r[4], 13: r[5], 14: r[6], 15: r[7]}
		return
	}
	copy(e.IP[:], r[8:24])
}

// bindUDP makes a socket. A wildcard of IPv6 takes IPv4, too, where the system has IPv6.
func bindUDP(at netip.AddrPort, shared bool, buffer int) (fd int, v6 bool, err error) {
	ip := at.Addr()
	both := ip.Is6() && ip.IsUnspecified() && shared
	v6 = ip.Is6() && !ip.Is4In6()
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	defer func() {
		if err != nil {
			err = &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(at), Err: err}
		}
	}()
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, false, os.NewSyscallError("socket", err)
	}
	set := func(level, option, value int) { _ = unix.SetsockoptInt(fd, level, option, value) }
	if v6 {
		only := 1
		if both {
			only = 0
		}
		set(unix.SOL_IPV6, unix.IPV6_V6ONLY, only)
		set(unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1)
	}
	set(unix.SOL_IP, unix.IP_RECVTOS, 1)
	fragment(fd, v6, false)
	if shared && ip.IsUnspecified() {
		wantLocal(fd, v6)
	}
	for _, option := range [...]struct{ forced, polite int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, option.forced, buffer) != nil {
			set(unix.SOL_SOCKET, option.polite, buffer)
		}
	}
	if shared {
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	var raw rawAddress
	e := endpointOf(at)
	n := raw.put(&e, v6)
	if _, _, no := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(n)); no != 0 {
		_ = unix.Close(fd)
		return -1, false, os.NewSyscallError("bind", no)
	}
	return fd, v6, nil
}

// overflowed is how many packets, ever, found the socket full of what we had not read yet (Linux 4.12); it starts again
// from 0 after 2^32.
func overflowed(fd int) uint32 {
	const drops = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h
	var figures [drops + 1]uint32
	size := uint32(unsafe.Sizeof(figures))
	_, _, no := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&figures)), uintptr(unsafe.Pointer(&size)), 0)
	if no != 0 {
		return 0
	}
	return figures[drops]
}

// hasGSO asks whether the kernel cuts what it is given into segments (Linux 4.18).
func hasGSO(fd int) bool {
	_, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT)
	return err == nil
}

// wantGRO asks the kernel to join packets of one sender and size (Linux 5.0).
func wantGRO(fd int) bool { return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil }

// steer makes that of the sockets which share fd's port, in the order in which they were bound, the one at the
// client's port modulo n receives. Classic BPF needs no privilege; it sees the payload, and before it the headers.
// A client with IP options may come elsewhere, which is as good.
func steer(fd, n int) error {
	const (
		netHeader = -0x100000 // SKF_NET_OFF of linux/filter.h
		version   = 0         // its octet in the header of IPv4 and IPv6
		port4     = 20        // of the source, behind an IPv4 header without options
		port6     = 40
	)
	network := func(offset int32) uint32 { return uint32(netHeader + offset) }
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: network(version)},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x60, Jt: 2},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: network(port4)},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: 1},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: network(port6)},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	if n == 1 {
		program = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{
		Len: uint16(len(program)), Filter: &program[0],
	})
}

// mapMemory is for buffers: apart from the collector's, and resident only where it is used.
func mapMemory(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	_ = unix.Madvise(b, unix.MADV_NOHUGEPAGE)
	return b, nil
}
