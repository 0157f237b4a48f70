//go:build unix

package edge

import (
	"errors"
	"syscall"
)

// writeNow writes as many bytes as the system takes without blocking, and returns their number.
func writeNow(conn syscall.RawConn, b []byte) (n int, err error) {
	refused := conn.Write(func(fd uintptr) bool {
		for n < len(b) && err == nil {
			var some int
			some, err = syscall.Write(int(fd), b[n:])
			if errors.Is(err, syscall.EINTR) {
				err = nil
			}
			n += max(some, 0)
		}
		return true
	})
	switch {
	case refused != nil:
		return n, refused
	case errors.Is(err, syscall.EAGAIN):
		return n, nil
	}
	return n, err
}
