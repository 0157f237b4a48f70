package relay

import (
	"slices"
	"sync"
	"sync/atomic"
)

// mostLocals bounds the addresses of ours that are told apart. It is more than a machine has; but where a whole IPv6
// prefix is ours, a stranger may send to each address of it.
const mostLocals = 256

// locals are our addresses to which clients have sent, where the server listens on all. An answer has to leave from the
// address that was asked: the client, and each translator and firewall on the way, takes it from no other.
//
// The kernel tells the address with each message and takes it with each answer (IP_PKTINFO). A socket for each address
// would spare that on a wildcard address and nothing on any other, but it would have to
// follow addresses that come and go, and miss those that are ours without standing on an interface.
type locals struct {
	list atomic.Pointer[[][16]byte] // element i is local i+1 of an endpoint; elements are added, never changed
	mu   sync.Mutex                 // held while one is added
}

func newLocals() *locals {
	l := new(locals)
	l.list.Store(new([][16]byte))
	return l
}

// number is what an endpoint's local is for an address of ours, or 0, which lets the kernel choose.
func (l *locals) number(ip *[16]byte) uint16 {
	if *ip == [16]byte{} {
		return 0
	}
	if i := slices.Index(*l.list.Load(), *ip); i >= 0 {
		return uint16(i + 1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	list := *l.list.Load()
	i := slices.Index(list, *ip)
	if i < 0 && len(list) < mostLocals {
		i = len(list)
		list = append(slices.Clip(list), *ip)
		l.list.Store(&list)
	}
	return uint16(i + 1)
}

// ip is the address that a number other than 0 stands for.
func (l *locals) ip(number uint16) *[16]byte { return &(*l.list.Load())[number-1] }
