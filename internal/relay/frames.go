package relay

import (
	"encoding/binary"
	"errors"
	"io"
)

// longestFrame is what a length field, its header and the padding can come to.
const longestFrame = 1<<16 - 1

var (
	errFrameShape  = errors.New("neither STUN nor ChannelData")
	errFrameLength = errors.New("frame too long")
)

// frameLength is that of the frame which begins with header: RFC 8489 §6.2.2, and RFC 8656 §12.5 for ChannelData,
// which is padded on a stream. It is reckoned in int: in 16 bits it would wrap to 0, and the reader spin for ever.
func frameLength(header [channelHeader]byte) (int, error) {
	n := int(binary.BigEndian.Uint16(header[2:]))
	switch {
	case header[0]&0xc0 == 0 && n%4 == 0:
		n += stunHeader
	case header[0]&0xc0 == 0x40:
		n = channelHeader + (n+3)&^3
	default:
		return 0, errFrameShape
	}
	if n > longestFrame {
		return 0, errFrameLength
	}
	return n, nil
}

// readFrame reads the next frame into b and returns its length. One that does not fit into b is read over: then the
// length is 0.
func readFrame(r io.Reader, b []byte) (int, error) {
	var header [channelHeader]byte
	if _, err := io.ReadFull(r, b[:channelHeader]); err != nil {
		return 0, err
	}
	copy(header[:], b)
	n, err := frameLength(header)
	if err != nil {
		return 0, err
	}
	if n > len(b) {
		_, err := io.CopyN(io.Discard, r, int64(n-len(header)))
		return 0, err
	}
	_, err = io.ReadFull(r, b[len(header):n])
	return n, err
}
