package relay

import (
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"

	"github.com/pion/stun/v4"
)

const (
	stunHeader    = 20
	channelHeader = 4
	magicCookie   = 0x2112A442
	integritySize = 24 // of MESSAGE-INTEGRITY and its header

	// dataHeader is the longest that stands before the payload of a Data indication: the STUN header, the TURN peer as
	// IPv6, the header of DATA.
	dataHeader = stunHeader + 4 + 20 + 4

	// A client of RFC 8656 §12 takes channels up to 0x4fff, one of RFC 5766 §11 any up to 0x7fff. The server cannot tell
	// them apart, and coturn's client chooses at random: three in four of its channels would be refused. RFC 8656 gave the
	// upper ones up because they collide with other protocols on the same port (RFC 7983); on this one there is none.
	firstChannel, lastChannel = 0x4000, 0x7fff

	fingerprintXOR = 0x5354554e // RFC 8489 §14.7
)

// RFC 8656 §18; pion/stun has no names for these.
const (
	attrAdditionalAddressFamily stun.AttrType = 0x8000
	attrAddressErrorCode        stun.AttrType = 0x8001
	attrMessageIntegritySHA256  stun.AttrType = 0x001c // RFC 8489 §14.6
)

// The messages that a TURN client sends, as their first two octets. Those of RFC 6062 are not among them.
var (
	bindingRequest          = stun.BindingRequest.Value()
	bindingSuccess          = stun.BindingSuccess.Value()
	allocateRequest         = stun.NewType(stun.MethodAllocate, stun.ClassRequest).Value()
	refreshRequest          = stun.NewType(stun.MethodRefresh, stun.ClassRequest).Value()
	createPermissionRequest = stun.NewType(stun.MethodCreatePermission, stun.ClassRequest).Value()
	channelBindRequest      = stun.NewType(stun.MethodChannelBind, stun.ClassRequest).Value()
	sendIndication          = stun.NewType(stun.MethodSend, stun.ClassIndication).Value()
	dataIndication          = stun.NewType(stun.MethodData, stun.ClassIndication).Value()
)

// isRequest tells whether b, which is STUN, is a request that we answer.
func isRequest(b []byte) bool {
	switch binary.BigEndian.Uint16(b) {
	case bindingRequest, allocateRequest, refreshRequest, createPermissionRequest, channelBindRequest:
		return true
	}
	return false
}

// isSTUN is RFC 8489 §5, and that the message ends where it says.
func isSTUN(b []byte) bool {
	return len(b) >= stunHeader && len(b)%4 == 0 && b[0]&0xc0 == 0 &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHeader && binary.BigEndian.Uint32(b[4:]) == magicCookie
}

// isChannelData is RFC 5766 §11.5, and so RFC 8656 §12.4, too: over UDP, padding may follow.
func isChannelData(b []byte) bool {
	return len(b) >= channelHeader && b[0]&0xc0 == 0x40 && int(binary.BigEndian.Uint16(b[2:])) <= len(b)-channelHeader
}

// next cuts the first attribute off b, which is what follows a STUN header or an attribute. It is false at the end,
// and where an attribute does not fit.
func next(b []byte) (kind stun.AttrType, value, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	padded := 4 + (n+3)&^3
	if padded > len(b) {
		return 0, nil, nil, false
	}
	return stun.AttrType(binary.BigEndian.Uint16(b)), b[4 : 4+n], b[padded:], true
}

// attribute finds the first attribute of a kind in the STUN message b.
func attribute(b []byte, kind stun.AttrType) (value []byte, ok bool) {
	for rest := b[stunHeader:]; ; {
		k, v, after, ok := next(rest)
		if !ok {
			return nil, false
		}
		if k == kind {
			return v, true
		}
		rest = after
	}
}

// fingerprint tells whether the STUN message b has one, and whether that is right.
func fingerprint(b []byte) (present, right bool) {
	value, ok := attribute(b, stun.AttrFingerprint)
	if !ok {
		return false, true
	}
	// RFC 8489 §14.7: it is the last attribute.
	end := len(b) - 8
	if len(value) != 4 || end < stunHeader || binary.BigEndian.Uint16(b[end:]) != uint16(stun.AttrFingerprint) {
		return true, false
	}
	return true, binary.BigEndian.Uint32(b[end+4:]) == crc32.ChecksumIEEE(b[:end])^fingerprintXOR
}

// beginResponse begins, in b, the response to request without memory of its own; endResponse ends it.
func beginResponse(b, request []byte, class stun.MessageClass) []byte {
	var kind stun.MessageType
	kind.ReadValue(binary.BigEndian.Uint16(request))
	b = binary.BigEndian.AppendUint16(b[:0], stun.NewType(kind.Method, class).Value())
	b = append(b, 0, 0)
	return append(b, request[4:stunHeader]...)
}

func appendAttribute(b []byte, kind stun.AttrType, value ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	return append(b, "\x00\x00\x00"[:-len(value)&3]...)
}

func appendError(b []byte, code stun.ErrorCode) []byte {
	return appendAttribute(b, stun.AttrErrorCode, 0, 0, byte(code/100), byte(code%100))
}

// appendXOR adds an address as RFC 8489 §14.2 hides it from translators; b begins with the message's header.
func appendXOR(b []byte, kind stun.AttrType, e endpoint) []byte {
	header := b[:stunHeader:stunHeader]
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	if e.is4() {
		b = append(b, 0, 8, 0, 1)
		b = binary.BigEndian.AppendUint16(b, e.port^magicCookie>>16)
		return binary.BigEndian.AppendUint32(b, binary.BigEndian.Uint32(e.ip[12:])^magicCookie)
	}
	b = append(b, 0, 20, 0, 2)
	b = binary.BigEndian.AppendUint16(b, e.port^magicCookie>>16)
	for i, octet := range e.ip {
		b = append(b, octet^header[4+i])
	}
	return b
}

// parseXOR reads such an address from the value of an attribute of the STUN message b.
func parseXOR(b, value []byte) (e endpoint, ok bool) {
	switch {
	case len(value) == 8 && value[1] == 1:
		e.ip[10], e.ip[11] = 0xff, 0xff
		copy(e.ip[12:], value[4:])
		for i := range 4 {
			e.ip[12+i] ^= b[4+i]
		}
	case len(value) == 20 && value[1] == 2:
		copy(e.ip[:], value[4:])
		for i := range e.ip {
			e.ip[i] ^= b[4+i]
		}
		// IPv4 in the clothes of IPv6 has no business here: the families could not be told apart.
		if e.is4() {
			return endpoint{}, false
		}
	default:
		return endpoint{}, false
	}
	e.port = binary.BigEndian.Uint16(value[2:]) ^ magicCookie>>16
	return e, true
}

// endResponse writes the length, and a fingerprint if the request had one: that keeps the answer within
// amplification.
func endResponse(b []byte, withFingerprint bool) []byte {
	if withFingerprint {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+8-stunHeader))
		sum := crc32.ChecksumIEEE(b) ^ fingerprintXOR
		b = append(b, 0x80, 0x28, 0, 4)
		return binary.BigEndian.AppendUint32(b, sum)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeader))
	return b
}

// parseSend reads a Send indication (RFC 8656 §11.2), which is STUN and comes with nothing that has to be understood
// beside the two.
func parseSend(b []byte) (peer endpoint, payload []byte, ok bool) {
	if present, right := fingerprint(b); present && !right {
		return endpoint{}, nil, false
	}
	var havePeer, haveData bool
	for rest := b[stunHeader:]; len(rest) > 0; {
		kind, value, after, ok := next(rest)
		if !ok {
			return endpoint{}, nil, false
		}
		rest = after
		switch {
		case kind == stun.AttrXORPeerAddress && !havePeer:
			if peer, havePeer = parseXOR(b, value); !havePeer {
				return endpoint{}, nil, false
			}
		case kind == stun.AttrData && !haveData:
			payload, haveData = value, true
		case kind == stun.AttrXORPeerAddress, kind == stun.AttrData, kind == stun.AttrDontFragment, kind.Optional():
			// Whoever sends minds DONT-FRAGMENT.
		default:
			return endpoint{}, nil, false
		}
	}
	return peer, payload, havePeer && haveData
}

// appendDataHeader writes what stands before n bytes of payload in a Data indication (RFC 8656 §11.3); padding to a
// multiple of 4 comes after them.
func appendDataHeader(b []byte, id *[12]byte, peer *endpoint, n int) []byte {
	b = binary.BigEndian.AppendUint16(b[:0], dataIndication)
	b = append(b, 0, 0, 0x21, 0x12, 0xa4, 0x42)
	b = append(b, id[:]...)
	b = appendXOR(b, stun.AttrXORPeerAddress, *peer)
	b = binary.BigEndian.AppendUint16(b, uint16(stun.AttrData))
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeader+(n+3)&^3))
	return b
}

// appendHeader writes what stands before n bytes of payload that a client gets.
func appendHeader(b []byte, d *delivery, n int) []byte {
	if d.channel != 0 {
		b = binary.BigEndian.AppendUint16(b, d.channel)
		return binary.BigEndian.AppendUint16(b, uint16(n))
	}
	// Nobody answers an indication: its transaction id only has to differ.
	var id [stun.TransactionIDSize]byte
	binary.BigEndian.PutUint64(id[:], rand.Uint64())
	binary.BigEndian.PutUint32(id[8:], rand.Uint32())
	return appendDataHeader(b, &id, &d.peer, n)
}
