package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/visavis/visavis/protocol"
)

var epoch = time.Now()

// stampedCandidate is a candidate that is about to be sent. A browser would send it, but for its foundation, which
// is when it was sent: the nanoseconds since epoch.
func stampedCandidate() protocol.Candidate {
	return protocol.Candidate{
		Candidate: fmt.Sprintf("candidate:%012d 1 udp 1677729535 192.0.2.17 46154 typ srflx raddr 0.0.0.0 rport 0 generation 0 "+
			"ufrag EsAw network-cost 999", time.Since(epoch).Nanoseconds()),
		SDPMid: &firstMid, SDPMLineIndex: &firstLine, UsernameFragment: &fragment,
	}
}

var (
	firstMid, fragment = "0", "EsAw"
	firstLine          uint16
)

// hops are the times that messages took from one client's send to the other's receive, here in this process.
type hops struct {
	mu   sync.Mutex
	took []time.Duration
}

// arrived takes note of a candidate, or a frame that has one.
func (h *hops) arrived(candidate []byte) {
	now := time.Since(epoch)
	_, stamp, _ := bytes.Cut(candidate, []byte("candidate:"))
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
