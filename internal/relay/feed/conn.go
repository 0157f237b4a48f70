package feed

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
)

const (
	// magic begins a feed. Its first byte is the one by which a relay tells a feed from a TURN client (wire.Feed).
	magic  = "\xffvisavis-feed/1\n"
	idSize = 8

	// headerSize is that of a frame: the length of its payload, and the MAC.
	headerSize = 4 + sha256.Size
	// longestPayload bounds what the other end has to keep at a time.
	longestPayload = 64 << 10
)

// Why there is no feed, or no more.
var (
	ErrNoFeed = errors.New("it speaks no feed")
	ErrSecret = errors.New("it has another secret")
	ErrFrame  = errors.New("a frame is too long, not signed, or out of order")
)

// A Conn carries signed frames both ways once both ends have shown that they hold the secret:
//
//	server → relay: magic ‖ id of the secret ‖ 32 random bytes
//	relay → server: 32 random bytes ‖ frame
//	server → relay: frame without payload; then frames both ways
//
//	frame = length of payload (4) ‖ HMAC-SHA256(key, number (8) ‖ payload) ‖ payload
//
// Each direction has a key of its own, made of the secret and both ends' random bytes, and numbers its frames: one of
// another connection, of the other direction, replayed or left out is no frame. Nothing is encrypted; that is for TLS below.
// One goroutine may send while another receives. Deadlines are the caller's.
type Conn struct {
	conn    io.Writer
	from    io.Reader
	out, in signer
	longest int // payload that is taken
}

// A signer numbers and signs the frames of one direction.
type signer struct {
	mac    hash.Hash
	number uint64
}

func (s *signer) next(payload []byte) []byte {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], s.number)
	s.number++
	s.mac.Reset()
	s.mac.Write(n[:])
	s.mac.Write(payload)
	return s.mac.Sum(nil)
}

func sign(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// purposed is a key for feeds alone: what is signed here is of no use as a credential, nor the other way round.
func purposed(secret []byte) []byte { return sign(secret, []byte("visavis feed 1")) }

// id tells which secret is meant without giving it away.
func id(key []byte) []byte { return sign(key, []byte("id"))[:idSize] }

func newConn(conn io.Writer, from io.Reader, key, relays, servers []byte, relay bool) *Conn {
	direction := func(who string) signer {
		return signer{mac: hmac.New(sha256.New, sign(key, []byte(who), relays, servers))}
	}
	c := &Conn{conn: conn, from: from, out: direction("server"), in: direction("relay"), longest: longestPayload}
	if relay {
		c.out, c.in = c.in, c.out
	}
	return c
}

// Open shakes hands with the relay at the other end of conn and receives its first frame into first. It is ErrNoFeed when
// nothing there knows what that is, ErrSecret when the relay has another secret.
func Open(conn net.Conn, secret []byte, first any) (*Conn, error) {
	key, servers, relays := purposed(secret), random(), make([]byte, sha256.Size)
	if _, err := conn.Write(append(append([]byte(magic), id(key)...), servers...)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoFeed, err)
	}
	from := bufio.NewReader(conn)
	if _, err := io.ReadFull(from, relays); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoFeed, err)
	}
	c := newConn(conn, from, key, relays, servers, false)
	if err := c.Receive(first); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecret, err)
	}
	return c, c.Send(nil)
}

// Accept shakes hands with a server, of whose bytes none was taken from from yet, and sends it first. It is ErrSecret when
// the server has none of the secrets. A stranger costs two dozen bytes on the wire and no memory but that of from.
func Accept(conn io.Writer, from *bufio.Reader, secrets [][]byte, first any) (*Conn, error) {
	hello := make([]byte, len(magic)+idSize+sha256.Size)
	if _, err := io.ReadFull(from, hello[:len(magic)]); err != nil {
		return nil, err
	}
	if string(hello[:len(magic)]) != magic {
		return nil, ErrNoFeed
	}
	if _, err := io.ReadFull(from, hello[len(magic):]); err != nil {
		return nil, err
	}
	named, servers := hello[len(magic):len(magic)+idSize], hello[len(magic)+idSize:]
	relays := random()
	if _, err := conn.Write(relays); err != nil {
		return nil, err
	}
	for _, secret := range secrets {
		key := purposed(secret)
		if !hmac.Equal(id(key), named) {
			continue
		}
		c := newConn(conn, from, key, relays, servers, true)
		if err := c.Send(first); err != nil {
			return nil, err
		}
		c.longest = 0 // until it has signed something
		if err := c.Receive(nil); err != nil {
			return nil, err
		}
		c.longest = longestPayload
		return c, nil
	}
	return nil, ErrSecret
}

func random() []byte {
	b := make([]byte, sha256.Size)
	_, _ = rand.Read(b) // never fails
	return b
}

// Send sends v as JSON, or an empty frame when it is nil.
func (c *Conn) Send(v any) error {
	var payload []byte
	if v != nil {
		var err error
		if payload, err = json.Marshal(v); err != nil {
			return err
		}
	}
	if len(payload) > longestPayload {
		return ErrFrame
	}
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), c.out.next(payload)...)
	_, err := c.conn.Write(append(frame, payload...))
	return err
}

// Receive waits for the next frame and decodes it into v, which an empty one leaves as it is. Any error, ErrFrame among
// them, ends the feed.
func (c *Conn) Receive(v any) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.from, header[:]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(header[:]))
	if n > c.longest {
		return ErrFrame
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.from, payload); err != nil {
		return err
	}
	if !hmac.Equal(c.in.next(payload), header[4:]) {
		return ErrFrame
	}
	if n == 0 || v == nil {
		return nil
	}
	return json.Unmarshal(payload, v)
}
