package hub

import (
	"context"
	"slices"
	"time"

	"github.com/visavis/visavis/protocol"
)

// round is the interval at which [Hub.Run] works.
const round = time.Second

// rounds are the lines of a hub, in as many groups as there are rounds between two
// pings of a line. Each round pings one group, so that it does not visit every line.
// Guarded by Hub.mu.
type rounds struct {
	groups [][]*Line // lines that are no longer a session's are dropped when their group's turn comes
	turn   int       // the group that is pinged next
}

func newRounds(ping time.Duration) rounds {
	return rounds{groups: make([][]*Line, max(1, int(ping/round)))}
}

// add adds a new line to the group that is pinged last.
func (r *rounds) add(l *Line) {
	i := (r.turn + len(r.groups) - 1) % len(r.groups)
	r.groups[i] = append(r.groups[i], l)
}

// roundLocked returns the lines to ping now. It drops dead lines when their group's turn
// comes, and halfway between two turns.
func (h *Hub) roundLocked(now time.Time) (quiet []*Line) {
	r := &h.rounds
	turn, n := r.turn, len(r.groups)
	r.turn = (turn + 1) % n
	h.checkLocked((turn+n/2)%n, now)
	h.checkLocked(turn, now)
	return slices.Clone(r.groups[turn])
}

// checkLocked drops the lines of a group whose client was not heard for two and a half
// ping intervals. It removes from the group the lines that no session uses any more.
func (h *Hub) checkLocked(group int, now time.Time) {
	lines := h.rounds.groups[group]
	ping := protocol.Duration(h.cfg.Timings.PingMs)
	h.rounds.groups[group] = slices.DeleteFunc(lines, func(l *Line) bool {
		if l.session.line == l && now.Sub(l.seen) >= 2*ping+ping/2 {
			h.dropLocked(l, protocol.CloseSilent, "two pings went unanswered")
		}
		return l.session.line != l
	})
}

// Lines that were added in the same round are pinged in the same round. Thousands of pings
// and answers at once would delay the messages of calls. Therefore the pings of a round
// are spread over most of the time until the next one.
const (
	pingSteps = 80
	pingStep  = 10 * time.Millisecond
	minPings  = 16 // in one step
)

func (h *Hub) ping(ctx context.Context, lines []*Line) {
	for some := range slices.Chunk(lines, max(minPings, len(lines)/pingSteps+1)) {
		for _, l := range some {
			h.mu.Lock()
			if l.session.line == l {
				l.urgent = append(l.urgent, protocol.Encode(&protocol.Ping{Ack: l.session.received}))
				l.wakeLocked()
			}
			h.mu.Unlock()
			h.flush() // one by one, so that this goroutine writes them all
		}
		if len(some) < minPings {
			return // the last chunk
		}
		select {
		case <-time.After(pingStep):
		case <-ctx.Done():
			return
		}
	}
}
