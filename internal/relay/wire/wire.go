// Package wire reads and writes what clients, servers and TURN peers send each other: STUN messages (RFC 8489), the
// messages that TURN adds to them and ChannelData (RFC 8656), the frames of both on a stream, and the PROXY protocol.
//
// It handles bytes and knows nothing else: it has no allocations, credentials or limits. Package relay decides what a
// message does. The functions that a relayed packet needs take no memory, as long as the caller's buffer is long enough.
//
// To read a datagram, ask [IsChannelData], then [ChannelData]; or ask [IsSTUN], then convert the bytes to a [Message].
// To read a stream, look at [OpeningOf] its first byte, then use [ReadFrame]. To answer a request, call [BeginSuccess] or [BeginError], append attributes, and
// call [EndResponse].
package wire

import "encoding/binary"

const (
	// HeaderSize is the length of a STUN header (RFC 8489 §5).
	HeaderSize = 20
	// ChannelHeaderSize is the length of a ChannelData header (RFC 8656 §12.4).
	ChannelHeaderSize = 4
	// DataHeaderSize is the most that precedes the payload of a Data indication: the STUN header, the TURN peer as IPv6,
	// and the header of DATA.
	DataHeaderSize = HeaderSize + attrHeaderSize + 20 + attrHeaderSize

	attrHeaderSize = 4
	magicCookie    = 0x2112a442
)

// FirstChannel and LastChannel bound the channel numbers that a client may bind. A client of RFC 8656 §12 takes channels
// up to 0x4fff, one of RFC 5766 §11 any up to 0x7fff. A server cannot tell them apart, and coturn's client chooses at
// random: with the lower limit, three in four of its channels would be refused. RFC 8656 gave up the upper channels
// because they collide with other protocols on the same port (RFC 7983). A TURN server's port carries none of those.
const (
	FirstChannel = 0x4000
	LastChannel  = 0x7fff
)

// IsSTUN reports whether b is one STUN message, from its header to its last byte (RFC 8489 §5).
func IsSTUN(b []byte) bool {
	return len(b) >= HeaderSize && len(b)%4 == 0 && KindOf(b[0]) == STUN &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-HeaderSize && binary.BigEndian.Uint32(b[4:]) == magicCookie
}

// IsChannelData reports whether b is a ChannelData message (RFC 8656 §12.4). Over UDP, padding may follow it.
func IsChannelData(b []byte) bool {
	return len(b) >= ChannelHeaderSize && KindOf(b[0]) == Channel &&
		int(binary.BigEndian.Uint16(b[2:])) <= len(b)-ChannelHeaderSize
}

// ChannelData splits b, for which [IsChannelData] holds.
func ChannelData(b []byte) (number uint16, payload []byte) {
	return binary.BigEndian.Uint16(b), b[ChannelHeaderSize : ChannelHeaderSize+int(binary.BigEndian.Uint16(b[2:]))]
}

// AppendChannelHeader writes what precedes n bytes of payload in a ChannelData message.
func AppendChannelHeader(b []byte, number uint16, n int) []byte {
	b = binary.BigEndian.AppendUint16(b, number)
	return binary.BigEndian.AppendUint16(b, uint16(n))
}
