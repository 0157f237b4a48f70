package wire

import "encoding/binary"

// A Send is the content of a Send indication (RFC 8656 §11.2).
type Send struct {
	Peer         Address
	Payload      []byte // part of the message
	DontFragment bool
}

// ParseSend reads a Send indication. It is not ok if an attribute is malformed or missing, if FINGERPRINT is wrong, or if
// there is an attribute that a receiver must understand and that has no place in it.
func ParseSend(m Message) (s Send, ok bool) {
	if present, right := m.Fingerprint(); present && !right {
		return Send{}, false
	}
	var havePeer, haveData bool
	for rest := m.Attributes(); len(rest) > 0; {
		kind, value, after, ok := rest.Next()
		if !ok {
			return Send{}, false
		}
		rest = after
		switch {
		case kind == AttrXORPeerAddress && !havePeer:
			if s.Peer, havePeer = m.XORAddress(value); !havePeer {
				return Send{}, false
			}
		case kind == AttrData && !haveData:
			s.Payload, haveData = value, true
		case kind == AttrDontFragment:
			s.DontFragment = true
		case kind == AttrXORPeerAddress, kind == AttrData, !kind.Required(): // only the first one counts
		default:
			return Send{}, false
		}
	}
	return s, havePeer && haveData
}

// BeginData writes, in the memory of b, what precedes n bytes of payload in a Data indication (RFC 8656 §11.3).
// [AppendPadding] follows them.
func BeginData(b []byte, id *Transaction, peer *Address, n int) []byte {
	b = binary.BigEndian.AppendUint16(b[:0], uint16(DataIndication))
	b = append(b, 0, 0, 0x21, 0x12, 0xa4, 0x42)
	b = append(b, id[:]...)
	b = AppendXORAddress(b, AttrXORPeerAddress, peer)
	b = binary.BigEndian.AppendUint16(b, uint16(AttrData))
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-HeaderSize+(n+3)&^3))
	return b
}
