package relay

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// A bucket is a token bucket without a lock: the generic cell rate algorithm, whose whole state is the time at which
// it will be full again. Times are those of the server's clock, in ns since it was made.
type bucket struct{ full atomic.Int64 }

// take is false, and takes nothing, when cost would bring the bucket further from full than depth; both in ns.
func (b *bucket) take(now, cost, depth int64) bool {
	for {
		full := b.full.Load()
		next := max(full, now) + cost
		if next-now > depth {
			return false
		}
		if b.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

// A lane bounds one direction of what a holder relays, in bytes and in packets, each with bursts of a second.
type lane struct{ bytes, packets bucket }

const burst = int64(time.Second)

// rates are what lanes admit.
type rates struct{ perByte, perPacket int64 } // ns

func newRates(bitRate, packetRate int) rates {
	return rates{perByte: 8 * burst / int64(bitRate), perPacket: burst / int64(packetRate)}
}

// admits takes no more than a burst away, however long the packet is: a rate below one packet is still a rate.
func (l *lane) admits(r rates, now int64, n int) bool {
	return l.packets.take(now, r.perPacket, burst) && l.bytes.take(now, min(int64(n)*r.perByte, burst), burst)
}

// A budget bounds the bytes that many relay together, in both directions, with bursts of a quarter of a second: a longer
// one would fill the buffers of the network.
type budget struct{ up, down bucket }

const budgetBurst = burst / 4

// spend tells whether a direction of a budget has n bytes left at a bit rate.
func spend(b *bucket, bitRate int64, n int, now int64) bool {
	return b.take(now, int64(n)*8*burst/bitRate, budgetBurst)
}

// hashedBuckets are token buckets for any number of keys in a memory that does not grow. Keys that fall together by a
// secret hash share one bucket.
type hashedBuckets struct {
	cost, depth int64 // of one answer; of the bucket: ns
	seed        maphash.Seed
	slots       [1 << 14]bucket
}

func newHashedBuckets(rate, burst int) *hashedBuckets {
	cost := max(int64(time.Second)/int64(rate), 1)
	return &hashedBuckets{cost: cost, depth: cost * int64(burst), seed: maphash.MakeSeed()}
}

func (b *hashedBuckets) take(key []byte, now int64) bool { return b.takeSome(key, 1, now) }

// takeSome takes n at once.
func (b *hashedBuckets) takeSome(key []byte, n, now int64) bool {
	return b.slots[maphash.Bytes(b.seed, key)%uint64(len(b.slots))].take(now, n*b.cost, b.depth)
}

// sourceOf returns what is counted as one source: an IPv4 address, or the /56 that an IPv6 customer has.
func sourceOf(src endpoint) [16]byte {
	if !src.Is4() {
		clear(src.IP[7:])
	}
	return src.IP
}
