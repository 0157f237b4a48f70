package wire

import (
	"encoding/binary"
	"net/netip"
)

// An Address is an IP address and a port. An IPv4 address is mapped into IPv6, so that == compares addresses. There is no
// zone.
type Address struct {
	IP   [16]byte
	Port uint16
}

// AddressOf converts an address of package netip.
func AddressOf(ap netip.AddrPort) Address { return Address{IP: ap.Addr().As16(), Port: ap.Port()} }

// AddrPort converts a to an address of package netip; IPv4 is not mapped there.
func (a Address) AddrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.IP).Unmap(), a.Port)
}

// Is4 reports whether a is an IPv4 address.
func (a *Address) Is4() bool {
	return binary.BigEndian.Uint64(a.IP[:]) == 0 && binary.BigEndian.Uint32(a.IP[8:]) == 0xffff
}

// Families of address attributes (RFC 8489 §14.1).
const (
	family4 = 1
	family6 = 2
)

// AppendXORAddress appends an address attribute that is XORed with the magic cookie and the transaction id (RFC 8489
// §14.2). b must begin with the header of its message.
func AppendXORAddress(b []byte, kind Attr, a *Address) []byte {
	header := b[:HeaderSize:HeaderSize]
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	if a.Is4() {
		b = append(b, 0, 8, 0, family4)
		b = binary.BigEndian.AppendUint16(b, a.Port^magicCookie>>16)
		return binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(a.IP[12:])^magicCookie)
	}
	b = append(b, 0, 20, 0, family6)
	b = binary.BigEndian.AppendUint16(b, a.Port^magicCookie>>16)
	for i, octet := range a.IP {
		b = append(b, octet^header[4+i])
	}
	return b
}

// XORAddress reads the value of an address attribute of m that [AppendXORAddress] could have written. It is not ok for
// an IPv4 address that is mapped into IPv6: the two families could not be told apart.
func (m Message) XORAddress(value []byte) (a Address, ok bool) {
	switch {
	case len(value) == 8 && value[1] == family4:
		a.IP[10], a.IP[11] = 0xff, 0xff
		copy(a.IP[12:], value[4:])
		for i := range 4 {
			a.IP[12+i] ^= m[4+i]
		}
	case len(value) == 20 && value[1] == family6:
		copy(a.IP[:], value[4:])
		for i := range a.IP {
			a.IP[i] ^= m[4+i]
		}
		if a.Is4() {
			return Address{}, false
		}
	default:
		return Address{}, false
	}
	a.Port = binary.BigEndian.Uint16(value[2:]) ^ magicCookie>>16
	return a, true
}
