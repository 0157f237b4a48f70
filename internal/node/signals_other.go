//go:build !unix

package node

import "os"

// listSignals are those at which allocations are listed: none on this system.
var listSignals []os.Signal
