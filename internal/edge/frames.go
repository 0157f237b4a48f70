package edge

import (
	"encoding/binary"

	"github.com/visavis/visavis/protocol"
)

// frameChecker checks the frame headers of one client's WebSocket (RFC 6455 §5.2) before
// gws reads them. gws 1.8.9 converts a 64-bit length to an int and does not check its
// sign. A negative length panics in the reader's goroutine, where no message handler can
// recover it. Therefore gws receives a header only after frameChecker has found it legal
// and within the size limit.
//
// frameChecker stores the bytes of one header at most, and allocates nothing. The
// connection's reader owns it.
type frameChecker struct {
	rest       uint32 // bytes of the frame's masking key and payload that are still to come
	message    uint32 // payload bytes of the message so far, while it comes in fragments
	header     [10]byte
	have       uint8 // bytes of header that have come
	fragmented bool  // a message has begun and has not ended
}

// violation is the reason why the server closes a connection: a close code and a text for the client.
type violation struct {
	code   protocol.CloseCode
	reason string
}

// closeProtocol is "protocol error" (RFC 6455 §7.4.1).
const closeProtocol protocol.CloseCode = 1002

// The violations that close a connection. The texts name sections of RFC 6455.
var (
	reservedBits      = &violation{closeProtocol, "a reserved bit is set (5.2)"}
	reservedOpcode    = &violation{closeProtocol, "the opcode is reserved (5.2)"}
	strayContinuation = &violation{closeProtocol, "a continuation frame without a message (5.4)"}
	brokenFragments   = &violation{closeProtocol, "a new message within fragments of another (5.4)"}
	fragmentedControl = &violation{closeProtocol, "a control frame in fragments (5.5)"}
	longControl       = &violation{closeProtocol, "a control frame of more than 125 bytes (5.5)"}
	unmasked          = &violation{closeProtocol, "a client's frame without a mask (5.1)"}
	negativeLength    = &violation{closeProtocol, "the top bit of a 64-bit length is set (5.2)"}
	longLength        = &violation{closeProtocol, "a length takes more bytes than it needs (5.2)"}
	tooLarge          = &violation{protocol.CloseTooLarge, "a message is larger than 128 KiB"}
)

const (
	finalBit, reservedMask, opcodeMask = 0x80, 0x70, 0x0f
	maskBit, lengthMask                = 0x80, 0x7f
	length16, length64                 = 126, 127 // the length follows in so many bits
	maskingKey                         = 4
	maxControl                         = 125
)

const (
	opContinuation, opText, opBinary = 0x0, 0x1, 0x2
	opClose, opPing, opPong          = 0x8, 0x9, 0xa
)

// pass checks b, the client's next bytes. If they violate the protocol, n is the number of
// bytes before the offending one, and pass must not be called again.
func (f *frameChecker) pass(b []byte) (n int, wrong *violation) {
	for n < len(b) {
		if f.rest > 0 {
			some := min(f.rest, uint32(len(b)-n)) //nolint:gosec // a read is shorter than 4 GiB
			f.rest -= some
			n += int(some)
			continue
		}
		f.header[f.have] = b[n]
		f.have++
		switch f.have {
		case 1:
			wrong = f.first(b[n])
		case 2:
			wrong = f.second(b[n])
		}
		if wrong == nil && int(f.have) == f.size() {
			wrong = f.begin()
		}
		if wrong != nil {
			return n, wrong
		}
		n++
	}
	return n, nil
}

// unfinished reports whether a frame, or a message of several, has begun and has not ended.
func (f *frameChecker) unfinished() bool { return f.have > 0 || f.rest > 0 || f.fragmented }

// first judges a header's first byte.
func (f *frameChecker) first(b byte) *violation {
	if b&reservedMask != 0 { // no extension is ever agreed on
		return reservedBits
	}
	switch b & opcodeMask {
	case opContinuation:
		if !f.fragmented {
			return strayContinuation
		}
	case opText, opBinary:
		if f.fragmented {
			return brokenFragments
		}
	case opClose, opPing, opPong:
		if b&finalBit == 0 {
			return fragmentedControl
		}
	default:
		return reservedOpcode
	}
	return nil
}

// second judges a header's second byte.
func (f *frameChecker) second(b byte) *violation {
	switch {
	case b&maskBit == 0:
		return unmasked
	case f.isControl() && b&lengthMask > maxControl:
		return longControl
	}
	return nil
}

func (f *frameChecker) isControl() bool { return f.header[0]&0x08 != 0 }

// size is how long the header is, without the masking key.
func (f *frameChecker) size() int {
	switch {
	case f.have < 2:
		return 2
	case f.header[1]&lengthMask == length16:
		return 2 + 2
	case f.header[1]&lengthMask == length64:
		return 2 + 8
	}
	return 2
}

// begin judges the length of a header that is whole. The frame's payload is next.
func (f *frameChecker) begin() *violation {
	length, shorter := uint64(f.header[1]&lengthMask), uint64(0)
	switch length {
	case length16:
		length, shorter = uint64(binary.BigEndian.Uint16(f.header[2:])), maxControl
	case length64:
		length, shorter = binary.BigEndian.Uint64(f.header[2:]), 1<<16-1
	}
	switch {
	case length>>63 != 0:
		return negativeLength
	case shorter > 0 && length <= shorter:
		return longLength
	case length > protocol.MaxFrame-uint64(f.message) && !f.isControl():
		return tooLarge
	}
	f.have, f.rest = 0, maskingKey+uint32(length)
	if !f.isControl() {
		f.message += uint32(length)
		if f.fragmented = f.header[0]&finalBit == 0; !f.fragmented {
			f.message = 0
		}
	}
	return nil
}
