package wire

// A Kind is what a first byte announces. Whether the rest keeps to it is another question: [IsSTUN], [IsChannelData].
type Kind uint8

// What a datagram, a frame on a stream or a connection can begin with.
const (
	Other Kind = iota
	STUN
	Channel     // ChannelData
	ProxyLine   // PROXY protocol, version 1
	ProxyHeader // PROXY protocol, version 2
	Feed        // package feed's handshake
)

// KindOf returns the kind of a datagram or of a frame on a stream by its first byte. It follows RFC 7983 §7, but for
// channels (see [FirstChannel]):
//
//	0–3      STUN; RFC 7983 §10.1 reserves the methods whose first byte is greater
//	16–19    ZRTP; Other
//	20–63    DTLS, or a TLS record; Other
//	64–79    Channel
//	80–127   Channel, which RFC 7983 leaves unassigned
//	128–191  RTP and RTCP; Other
//
// A TURN server is sent what is Other by mistake only: media travels inside ChannelData.
func KindOf(first byte) Kind {
	switch {
	case first&0xc0 == 0x40:
		return Channel
	case first <= 3:
		return STUN
	}
	return Other
}

// OpeningOf returns the kind of a connection by its first byte, below TLS or without it. A client opens with STUN, and so
// 'P' is no channel here.
func OpeningOf(first byte) Kind {
	switch first {
	case 'P':
		return ProxyLine
	case proxySignature[0]:
		return ProxyHeader
	case 0xff:
		return Feed
	}
	return KindOf(first)
}
