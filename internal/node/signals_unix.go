//go:build unix

package node

import (
	"os"
	"syscall"
)

// listSignals are those at which allocations are listed.
var listSignals = []os.Signal{syscall.SIGUSR1}
