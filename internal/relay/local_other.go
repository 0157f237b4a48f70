//go:build !linux

package relay

import "net"

// On other systems than Linux the system chooses the address that answers leave from, and whether packets are
// fragmented.
const (
	setsDF   = false
	oobSpace = 0
)

func prepare(*net.UDPConn, bool, bool) {}

func whole(_ *net.UDPConn, _ bool, f func()) { f() }

func localIn([]byte) (local [16]byte) { return local }

func putLocal([]byte, bool, *[16]byte) int { return 0 }
