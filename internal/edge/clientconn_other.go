//go:build !unix

package edge

import "syscall"

// writeNow writes nothing and so leaves all bytes to the backlog. Package syscall has no portable nonblocking write.
func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }
