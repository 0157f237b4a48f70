package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A candidate that a browser would send, but for its foundation, which is when it was sent: the nanoseconds since epoch.
const (
	candidateBefore = `{"candidate":"candidate:`
	candidateAfter  = ` 1 udp 1677729535 192.0.2.17 46154 typ srflx raddr 0.0.0.0 rport 0 generation 0 ` +
		`ufrag EsAw network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}`
)

var epoch = time.Now()

// stampedCandidate is a candidate that is about to be sent.
func stampedCandidate() string {
	return candidateBefore + fmt.Sprintf("%012d", time.Since(epoch).Nanoseconds()) + candidateAfter
}

// hops are the times that messages took from one client's send to the other's receive, here in this process.
type hops struct {
	mu   sync.Mutex
	took []time.Duration
}

// arrived takes note of a frame with a candidate.
func (h *hops) arrived(frame []byte) {
	now := time.Since(epoch)
	_, stamp, _ := bytes.Cut(frame, []byte(`"candidate:`))
	stamp, _, _ = bytes.Cut(stamp, []byte(" "))
	sent, err := strconv.ParseInt(string(stamp), 10, 64)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.took = append(h.took, now-time.Duration(sent))
	h.mu.Unlock()
}

// since are the hops since the last time, in order of length.
func (h *hops) since() []time.Duration {
	h.mu.Lock()
	took := h.took
	h.took = nil
	h.mu.Unlock()
	slices.Sort(took)
	return took
}

// percentile is of values in order.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}
