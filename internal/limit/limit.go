// Package limit bounds how often, and how many at a time, each source may do something. It decides nothing: its
// callers say what is bounded, by which key and how far.
//
// [Buckets] bound a rate: so many at once, then one each so often. [Places] bound how many there are at a time; where
// it can, a newcomer takes the place of the oldest, so that nobody is locked out by what others hold open.
//
// A key is whatever identifies one source: an address as [Source] returns it, a user id, or a struct of two. One
// address may be an office or a whole mobile network, so limits by address want generous bursts. Each purpose has
// limits of its own: what exhausts one must not close another.
//
//	hellos := limit.NewBuckets[netip.Addr](limit.Rate{Every: 100 * time.Millisecond, Burst: 300}, 0)
//	if !hellos.Allow(limit.Source(addr), time.Now()) { … }
//
// Memory is bounded whatever keys come.
package limit

import "net/netip"

// Source is the key of a client's address: the IPv4 address itself, or the /64 of an IPv6 address, because one
// customer has at least that many addresses (RFC 6177 §2). IPv4 mapped into IPv6 counts as IPv4, and zones are
// dropped. The invalid address is its own key.
func Source(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return addr
}
