package socketio

import (
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

// packet is a Socket.IO packet (socket.io-protocol v5).
type packet struct {
	kind      byte
	namespace string
	id        string // of the acknowledgment that the client asks for
	data      string
}

// The packet types of Socket.IO.
const (
	packetConnect     = '0'
	packetDisconnect  = '1'
	packetEvent       = '2'
	packetAck         = '3'
	packetRefusal     = '4'
	packetBinaryEvent = '5'
	packetBinaryAck   = '6'
)

// usersPacket is how the packet with the list of users begins.
const usersPacket = engineMessage + `2["users",`

func parsePacket(text string) (packet, bool) {
	p := packet{namespace: "/"}
	if text == "" {
		return p, false
	}
	p.kind, text = text[0], text[1:]
	if p.kind == packetBinaryEvent || p.kind == packetBinaryAck {
		_, text, _ = strings.Cut(text, "-") // the number of attachments
	}
	if strings.HasPrefix(text, "/") {
		p.namespace, text, _ = strings.Cut(text, ",")
	}
	p.data = strings.TrimLeft(text, "0123456789")
	p.id = text[:len(text)-len(p.data)]
	return p, p.kind >= packetConnect && p.kind <= packetBinaryAck && len(p.id) <= 20
}

// encodePacket returns a packet of the default namespace, in a packet of Engine.IO.
func encodePacket(kind byte, id string, data any) string {
	return engineMessage + string(kind) + id + string(protocol.JSON(data))
}

// packet acts on a packet of a client.
func (s *Server) packet(c *connection, text string) {
	p, ok := parsePacket(text)
	entered := c.carried()
	switch {
	case !ok:
		c.end(protocol.CloseBadMessage, "no Socket.IO packet")
	case p.namespace != "/":
		if p.kind == packetConnect {
			namespace := p.namespace[:min(len(p.namespace), protocol.MaxID)]
			c.put(engineMessage + "4" + namespace + `,{"message":"Invalid namespace"}`)
		}
		entered.count(c)
	case p.kind == packetConnect && entered == nil:
		if refused := s.enter(c, p.data); refused != nil {
			c.put(encodePacket(packetRefusal, "", map[string]any{"message": refused.Message, "data": refused}))
		}
	case p.kind == packetConnect || entered == nil:
		c.end(protocol.CloseBadMessage, "a Socket.IO packet out of place")
	case p.kind == packetDisconnect:
		entered.left(c)
		// A client that polls closes with one more request, which must find its connection.
		time.AfterFunc(lastRequestWait, s.contained(inTimer, func() { c.end(1000, "") }))
	case p.kind == packetEvent:
		entered.event(c, p)
	case p.kind == packetBinaryEvent:
		entered.refuse(c, p.id, protocol.Errorf(protocol.CodeBadMessage, "binary events are not understood here"))
	default: // an acknowledgment, which the server never asks for
		entered.count(c)
	}
}
