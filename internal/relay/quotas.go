package relay

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quotas counts the allocations there are and shares out what each holder, a user in a call, may use.
type quotas struct {
	cfg     Config
	metrics *metrics
	open    sync.WaitGroup // relay sockets

	mu      sync.Mutex
	total   int                // guarded by mu
	holders map[string]*budget // guarded by mu: those with an allocation
}

// A budget is what the allocations of one holder have together.
type budget struct {
	allocations int // guarded by quotas.mu
	up, down    lane
}

// A lane bounds one direction.
type lane struct{ bytes, packets *rate.Limiter }

func (l lane) admits(n int) bool {
	now := time.Now()
	return l.packets.AllowN(now, 1) && l.bytes.AllowN(now, n)
}

func newQuotas(cfg Config, m *metrics) *quotas {
	return &quotas{cfg: cfg, metrics: m, holders: make(map[string]*budget)}
}

func (q *quotas) newLane() lane {
	bytes := q.cfg.BitRate / 8
	return lane{
		bytes:   rate.NewLimiter(rate.Limit(bytes), max(bytes, largestPacket)),
		packets: rate.NewLimiter(rate.Limit(q.cfg.PacketRate), q.cfg.PacketRate),
	}
}

// room says whether holder may have one more allocation; if not, the client is told 486.
func (q *quotas) room(holder string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	ok := q.roomLocked(holder)
	if !ok {
		q.metrics.refuse(causeAllocations)
	}
	return ok
}

func (q *quotas) roomLocked(holder string) bool {
	b := q.holders[holder]
	return b == nil || b.allocations < q.cfg.UserAllocations
}

// take is the start of an allocation, which give ends. It is nil, and the client is told 508, when the server is
// full, or when the holder's last room went to a request on another connection meanwhile.
func (q *quotas) take(holder string) *budget {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.total >= q.cfg.MaxAllocations || !q.roomLocked(holder) {
		q.metrics.refuse(causeAllocations)
		return nil
	}
	b := q.holders[holder]
	if b == nil {
		b = &budget{up: q.newLane(), down: q.newLane()}
		q.holders[holder] = b
	}
	b.allocations++
	q.total++
	q.open.Add(1)
	q.metrics.allocations.Inc()
	return b
}

func (q *quotas) give(holder string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.holders[holder]
	if b.allocations--; b.allocations == 0 {
		delete(q.holders, holder)
	}
	q.total--
	q.metrics.allocations.Dec()
	q.open.Done()
}

// wait returns when the last allocation is given back. Nobody takes one any more.
func (q *quotas) wait() { q.open.Wait() }
