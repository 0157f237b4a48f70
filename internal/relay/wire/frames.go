package wire

import (
	"encoding/binary"
	"errors"
	"io"
)

// longestFrame is the most that a length field, its header and the padding can add up to.
const longestFrame = 1<<16 - 1

// Errors of [FrameLength] and [ReadFrame]. After either of them the rest of the stream cannot be read.
var (
	ErrFrameShape  = errors.New("neither STUN nor ChannelData")
	ErrFrameLength = errors.New("frame too long")
)

// FrameLength returns the length of the frame that begins with header: a STUN message (RFC 8489 §6.2.2), or ChannelData,
// which a stream pads to a multiple of 4 (RFC 8656 §12.5). It calculates in int: 16 bits would wrap around to 0, and the
// reader would spin for ever.
func FrameLength(header [ChannelHeaderSize]byte) (int, error) {
	n := int(binary.BigEndian.Uint16(header[2:]))
	switch kind := KindOf(header[0]); {
	case kind == STUN && n%4 == 0:
		n += HeaderSize
	case kind == Channel:
		n = ChannelHeaderSize + (n+3)&^3
	default:
		return 0, ErrFrameShape
	}
	if n > longestFrame {
		return 0, ErrFrameLength
	}
	return n, nil
}

// ReadFrame reads the next frame into b and returns its length. It discards a frame that does not fit into b, and then
// returns 0.
func ReadFrame(r io.Reader, b []byte) (int, error) {
	var header [ChannelHeaderSize]byte
	if _, err := io.ReadFull(r, b[:ChannelHeaderSize]); err != nil {
		return 0, err
	}
	copy(header[:], b)
	n, err := FrameLength(header)
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
