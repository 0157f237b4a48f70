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

var reasons = map[Code]string{
	CodeBadRequest:                "Bad Request",
	CodeUnauthorized:              "Unauthorized",
	CodeForbidden:                 "Forbidden",
	CodeUnknownAttribute:          "Unknown Attribute",
	CodeAllocationMismatch:        "Allocation Mismatch",
	CodeStaleNonce:                "Stale Nonce",
	CodeAddressFamilyNotSupported: "Address Family not Supported",
	CodeWrongCredentials:          "Wrong Credentials",
	CodeUnsupportedTransport:      "Unsupported Transport Protocol",
	CodePeerAddressFamilyMismatch: "Peer Address Family Mismatch",
	CodeAllocationQuotaReached:    "Allocation Quota Reached",
	CodeInsufficientCapacity:      "Insufficient Capacity",
}

// Reason returns the phrase that the RFCs have for c.
func (c Code) Reason() string { return reasons[c] }

// BeginSuccess begins the success response to a request, in the memory of b. Append attributes, then call [EndResponse].
func BeginSuccess(b []byte, request Message) []byte { return begin(b, request, successClass) }

// BeginError begins an error response in the same way; ERROR-CODE is its first attribute (RFC 8489 §14.8). The reason is
// for people. It may be empty, and should be where the client has not proved its address and a response must be short.
func BeginError(b []byte, request Message, code Code, reason string) []byte {
	b = begin(b, request, errorClass)
	b = binary.BigEndian.AppendUint16(b, uint16(AttrErrorCode))
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(reason)))
	b = append(append(b, 0, 0, byte(code/100), byte(code%100)), reason...)
	return AppendPadding(b, len(reason))
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

// AppendUint32 appends an attribute that is a number, such as LIFETIME.
func AppendUint32(b []byte, kind Attr, value uint32) []byte {
	b = append(b, byte(kind>>8), byte(kind&0xff), 0, 4)
	return binary.BigEndian.AppendUint32(b, value)
}

// AppendPadding appends what follows n bytes to make them a multiple of 4.
func AppendPadding(b []byte, n int) []byte { return append(b, "\x00\x00\x00"[:-n&3]...) }

// EndResponse writes the length of the response b into its header. With fingerprint, it appends a FINGERPRINT
// (RFC 8489 §14.7).
func EndResponse(b []byte, fingerprint bool) []byte {
	if fingerprint {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)+8-HeaderSize))
		sum := crc32.ChecksumIEEE(b) ^ fingerprintXOR
		return AppendUint32(b, AttrFingerprint, sum)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-HeaderSize))
	return b
}
