package relay

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"time"
)

const (
	nonceLife = time.Hour // RFC 8656 §5: at least that often
	nonceRaw  = 18        // bytes: 4 of time, 14 of MAC; a longer one would make challenges amplify
	nonceText = 24
)

// nonces are stateless: a nonce is the time and a MAC over it and over where it was sent. Whoever shows one that is
// ours, and is not stale, receives what is sent to that address.
type nonces struct {
	mac hash.Hash
	buf [64]byte
	sum [sha256.Size]byte
}

// newNonceKey is of one server's life: nonces of an earlier one are stale.
func newNonceKey() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}

// newNonces is for one goroutine at a time; those with the same key know each other's.
func newNonces(key []byte) *nonces { return &nonces{mac: hmac.New(sha256.New, key)} }

func (n *nonces) raw(at uint32, from source) []byte {
	b := n.buf[:0]
	b = binary.BigEndian.AppendUint32(b, at)
	head := len(b)
	b = append(b, from.transport)
	b = append(b, from.IP[:]...)
	b = binary.BigEndian.AppendUint16(b, from.Port)
	n.mac.Reset()
	n.mac.Write(b)
	return append(b[:head], n.mac.Sum(n.sum[:0])[:nonceRaw-head]...)
}

// append adds a nonce for from as text.
func (n *nonces) append(b []byte, now time.Time, from source) []byte {
	return base64.RawURLEncoding.AppendEncode(b, n.raw(uint32(now.Unix()), from))
}

// fresh tells whether nonce is one for from that is not stale.
func (n *nonces) fresh(nonce []byte, now time.Time, from source) bool {
	var got [nonceRaw]byte
	if len(nonce) != nonceText {
		return false
	}
	// The strict decoder allocates nothing either, and there is one spelling.
	if k, err := base64.RawURLEncoding.Decode(got[:], nonce); err != nil || k != nonceRaw {
		return false
	}
	at := binary.BigEndian.Uint32(got[:])
	age := uint32(now.Unix()) - at // wraps, and then is long
	return age < uint32(nonceLife/time.Second) && subtle.ConstantTimeCompare(got[:], n.raw(at, from)) == 1
}
