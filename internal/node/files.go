package node

// otherFiles is how many files everything but clients and relayed ports needs: database,
// logs, push services, relays that stand alone, TURN over TCP and TLS in part.
const otherFiles = 512

// maxConnections is how many clients may be connected by HTTP at a time, of so many files
// that the process may open: those that relay and store do not need, but half of them at
// least. 0 is no bound.
func maxConnections(files uint64, r Relay) int {
	reserve := uint64(otherFiles)
	if r.Enabled {
		reserve += uint64(r.MaxPort-r.MinPort) + 1
	}
	const most = 1 << 30                               // RLIM_INFINITY is more than an int has
	return int(min(files-min(reserve, files/2), most)) //nolint:gosec // at most 1<<30
}
