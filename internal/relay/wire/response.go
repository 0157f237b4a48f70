package wire

import (
	"encoding/binary"
	"hash/crc32"
)

// A Code is an error code of STUN or TURN.
type Code int

// Codes of RFC 8489 §14.8 and RFC 8656 §19.
const (
	CodeBadRequest                Code = 400
	CodeUnauthorized              Code = 401
	CodeForbidden                 Code = 403
	CodeUnknownAttribute          Code = 420
	CodeAllocationMismatch        Code = 437
	CodeStaleNonce                Code = 438
	CodeAddressFamilyNotSupported Code = 440
	CodeWrongCredentials          Code = 441
	CodeUnsupportedTransport      Code = 442
	CodePeerAddressFamilyMismatch Code = 443
	CodeAllocationQuotaReached    Code = 486
	CodeInsufficientCapacity      Code = 508
)

// BeginSuccess begins the success response to a request, in the memory of b. Append attributes, then call [EndResponse].
func BeginSuccess(b []byte, request Message) []byte { return begin(b, request, successClass) }

// BeginError begins an error response in the same way; ERROR-CODE is its first attribute. The reason is left empty: a
// response to an unproved address must be short.
func BeginError(b []byte, request Message, code Code) []byte {
	return AppendAttribute(begin(b, request, errorClass), AttrErrorCode, 0, 0, byte(code/100), byte(code%100))
}

func begin(b []byte, request Message, class Type) []byte {
	b = binary.BigEndian.AppendUint16(b[:0], uint16(request.Type().Request()|class))
	b = append(b, 0, 0)
	return append(b, request[4:HeaderSize]...)
}

// AppendAttribute appends an attribute and its padding.
func AppendAttribute(b []byte, kind Attr, value ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return AppendPadding(append(b, value...), len(value))
}

// AppendPadding appends what follows n bytes to make them a multiple of 4.
func AppendPadding(b []byte, n int) []byte { return append(b, "\x00\x00\x00"[:-n&3]...) }

// EndResponse writes the length of the response b into its header. With fingerprint, it appends a FINGERPRINT
// (RFC 8489 §14.7).
func EndResponse(b []byte, fingerprint bool) []byte {
	if fingerprint {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+8-HeaderSize))
		sum := crc32.ChecksumIEEE(b) ^ fingerprintXOR
		b = append(b, byte(AttrFingerprint>>8), byte(AttrFingerprint&0xff), 0, 4)
		return binary.BigEndian.AppendUint32(b, sum)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-HeaderSize))
	return b
}
