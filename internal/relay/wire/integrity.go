package wire

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 8489 §14.5
	"encoding/binary"
	"hash"
)

// integritySize is that of MESSAGE-INTEGRITY and its header.
const integritySize = attrHeaderSize + sha1.Size

// An Integrity signs messages with a key, and checks signatures: MESSAGE-INTEGRITY, RFC 8489 §14.5. One goroutine at a
// time may use it.
type Integrity struct {
	mac    hash.Hash
	header [4]byte         // up to the length that is signed
	sum    [sha1.Size]byte // what Verify compares
}

// NewIntegrity returns the Integrity for a key. That of long-term credentials is RFC 8489 §9.2.2.
func NewIntegrity(key []byte) *Integrity { return &Integrity{mac: hmac.New(sha1.New, key)} }

// Signed returns the part of m that ends with its MESSAGE-INTEGRITY. What follows is not signed and must be ignored,
// except for FINGERPRINT. It is not ok if there is no MESSAGE-INTEGRITY.
func (m Message) Signed() (signed Message, ok bool) {
	for rest := m.Attributes(); ; {
		kind, _, after, ok := rest.Next()
		if !ok {
			return nil, false
		}
		if kind == AttrMessageIntegrity {
			return m[:len(m)-len(after)], true
		}
		rest = after
	}
}

// Verify reports whether the signature of signed is right. See [Message.Signed].
func (i *Integrity) Verify(signed Message) bool {
	end := len(signed) - integritySize
	if end < HeaderSize || Attr(binary.BigEndian.Uint16(signed[end:])) != AttrMessageIntegrity ||
		binary.BigEndian.Uint16(signed[end+2:]) != sha1.Size {
		return false
	}
	return hmac.Equal(i.appendSum(i.sum[:0], signed[:end]), signed[end+attrHeaderSize:])
}

// Append signs the response b. Only FINGERPRINT may follow.
func (i *Integrity) Append(b []byte) []byte {
	signed := b
	b = append(b, 0, byte(AttrMessageIntegrity), 0, sha1.Size)
	return i.appendSum(b, signed)
}

// appendSum appends the signature of message, which lacks only MESSAGE-INTEGRITY. The length that is signed includes that.
func (i *Integrity) appendSum(b []byte, message Message) []byte {
	copy(i.header[:], message[:2])
	binary.BigEndian.PutUint16(i.header[2:], uint16(len(message)-HeaderSize+integritySize))
	i.mac.Reset()
	i.mac.Write(i.header[:])
	i.mac.Write(message[4:])
	return i.mac.Sum(b)
}
