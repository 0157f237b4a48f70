package relay

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"

	"github.com/visavis/visavis/internal/relay/wire"
)

// An endpoint is an address and port as the data path compares them.
type endpoint struct {
	wire.Address
	local uint16 // of a client on UDP: which of our addresses it talks to (locals), so that it stands for the five-tuple
}

func endpointOf(ap netip.AddrPort) endpoint { return endpoint{Address: wire.AddressOf(ap)} }

// An index finds the allocation of a UDP client. Readers take no lock: what they see is never changed, only replaced.
// There is one writer at a time, the control plane.
type index struct {
	seed0, seed1 uint64
	buckets      []atomic.Pointer[indexNode] // a power of two
}

type indexNode struct {
	key        endpoint
	allocation *allocation
	next       *indexNode // never changed
}

// newIndex is quick for n allocations, and right for any number.
func newIndex(n int) *index {
	size := 1 << bits.Len(uint(max(n, 1)))
	return &index{seed0: rand.Uint64(), seed1: rand.Uint64(), buckets: make([]atomic.Pointer[indexNode], size)}
}

func (x *index) bucket(key *endpoint) *atomic.Pointer[indexNode] {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(key.IP[:])^x.seed0,
		binary.LittleEndian.Uint64(key.IP[8:])^uint64(key.Port)<<17^x.seed1)
	hi, lo = bits.Mul64(hi^lo^x.seed1, 0x9e3779b97f4a7c15^uint64(key.Port)) // 2^64 over the golden ratio
	return &x.buckets[(hi^lo)&uint64(len(x.buckets)-1)]
}

func (x *index) find(key *endpoint) *allocation {
	for n := x.bucket(key).Load(); n != nil; n = n.next {
		if n.key == *key {
			return n.allocation
		}
	}
	return nil
}

// add is for a key that is not there yet.
func (x *index) add(key endpoint, a *allocation) {
	b := x.bucket(&key)
	b.Store(&indexNode{key: key, allocation: a, next: b.Load()})
}

func (x *index) remove(key endpoint) {
	b := x.bucket(&key)
	b.Store(without(b.Load(), key))
}

// without copies what stands before the key: a reader may be on it.
func without(n *indexNode, key endpoint) *indexNode {
	switch {
	case n == nil:
		return nil
	case n.key == key:
		return n.next
	}
	return &indexNode{key: n.key, allocation: n.allocation, next: without(n.next, key)}
}
