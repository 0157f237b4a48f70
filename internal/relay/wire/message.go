package wire

import (
	"encoding/binary"
	"hash/crc32"
)

// A Message is the bytes of a STUN message: those for which [IsSTUN] holds. Its attributes may still be malformed.
type Message []byte

// A Transaction is the id by which a response is matched to its request (RFC 8489 §5).
type Transaction [12]byte

// A Type is the first two bytes of a STUN message: a method and a class (RFC 8489 §5).
type Type uint16

// The types that TURN clients and servers send. RFC 6062's are not among them.
const (
	BindingRequest          Type = 0x0001
	BindingSuccess          Type = 0x0101
	AllocateRequest         Type = 0x0003
	RefreshRequest          Type = 0x0004
	CreatePermissionRequest Type = 0x0008
	ChannelBindRequest      Type = 0x0009
	SendIndication          Type = 0x0016
	DataIndication          Type = 0x0017

	successClass Type = 0x0100
	errorClass   Type = 0x0110
	classMask    Type = 0x0110
)

// Request returns the request of the same method.
func (t Type) Request() Type { return t &^ classMask }

// Type returns the type of m.
func (m Message) Type() Type { return Type(binary.BigEndian.Uint16(m)) }

// Transaction returns the transaction id of m.
func (m Message) Transaction() Transaction { return Transaction(m[8:HeaderSize]) }

// An Attr is the type of an attribute.
type Attr uint16

// Attributes of RFC 8489 §18.3 and RFC 8656 §18.
const (
	AttrMappedAddress           Attr = 0x0001
	AttrUsername                Attr = 0x0006
	AttrMessageIntegrity        Attr = 0x0008
	AttrErrorCode               Attr = 0x0009
	AttrUnknownAttributes       Attr = 0x000a
	AttrChannelNumber           Attr = 0x000c
	AttrLifetime                Attr = 0x000d
	AttrXORPeerAddress          Attr = 0x0012
	AttrData                    Attr = 0x0013
	AttrRealm                   Attr = 0x0014
	AttrNonce                   Attr = 0x0015
	AttrXORRelayedAddress       Attr = 0x0016
	AttrRequestedAddressFamily  Attr = 0x0017
	AttrEvenPort                Attr = 0x0018
	AttrRequestedTransport      Attr = 0x0019
	AttrDontFragment            Attr = 0x001a
	AttrMessageIntegritySHA256  Attr = 0x001c
	AttrXORMappedAddress        Attr = 0x0020
	AttrReservationToken        Attr = 0x0022
	AttrAdditionalAddressFamily Attr = 0x8000
	AttrAddressErrorCode        Attr = 0x8001
	AttrFingerprint             Attr = 0x8028
)

// Required reports whether a receiver must understand the attribute to process the message (RFC 8489 §14).
func (a Attr) Required() bool { return a < 0x8000 }

// Attributes are the attributes of a message, or the last of them.
type Attributes []byte

// Attributes returns all attributes of m.
func (m Message) Attributes() Attributes { return Attributes(m[HeaderSize:]) }

// Next returns the first attribute and those that follow it. It is not ok at the end, and where an attribute does not
// fit; a is not empty then.
func (a Attributes) Next() (kind Attr, value []byte, rest Attributes, ok bool) {
	if len(a) < attrHeaderSize {
		return 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(a[2:]))
	padded := attrHeaderSize + (n+3)&^3
	if padded > len(a) {
		return 0, nil, nil, false
	}
	return Attr(binary.BigEndian.Uint16(a)), a[attrHeaderSize : attrHeaderSize+n], a[padded:], true
}

// Attribute returns the value of the first attribute of a kind.
func (m Message) Attribute(kind Attr) (value []byte, ok bool) {
	for rest := m.Attributes(); ; {
		k, v, after, ok := rest.Next()
		if !ok {
			return nil, false
		}
		if k == kind {
			return v, true
		}
		rest = after
	}
}

// Has reports whether m has an attribute of a kind.
func (m Message) Has(kind Attr) bool {
	_, ok := m.Attribute(kind)
	return ok
}

// WellFormed reports whether all attributes of m fit.
func (m Message) WellFormed() bool {
	rest := m.Attributes()
	for len(rest) > 0 {
		_, _, after, ok := rest.Next()
		if !ok {
			return false
		}
		rest = after
	}
	return true
}

// fingerprintXOR is RFC 8489 §14.7.
const fingerprintXOR = 0x5354554e

// Fingerprint reports whether m has a FINGERPRINT, and whether that is right: RFC 8489 §14.7. It is right where there is
// none.
func (m Message) Fingerprint() (present, right bool) {
	value, ok := m.Attribute(AttrFingerprint)
	if !ok {
		return false, true
	}
	// It must be the last attribute.
	end := len(m) - 8
	if len(value) != 4 || end < HeaderSize || Attr(binary.BigEndian.Uint16(m[end:])) != AttrFingerprint {
		return true, false
	}
	return true, binary.BigEndian.Uint32(m[end+4:]) == crc32.ChecksumIEEE(m[:end])^fingerprintXOR
}
