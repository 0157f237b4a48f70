package relay

import (
	"errors"
	"net"
	"net/netip"
	"time"
)

// datagrams is the UDP socket as pion sees it: without what strangers must not have done for them.
type datagrams struct {
	*net.UDPConn
	guard *guard

	// The message pion is at work on: it answers before it reads the next.
	asked request // owned by the reader
}

type request struct {
	length int
	signed bool
}

// ReadFrom receives the next message for pion.
func (d *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := d.UDPConn.ReadFrom(p)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				d.guard.server.failed <- err
			}
			d.guard.server.readers.Done()
			return 0, nil, err
		}
		if n == len(p) {
			d.guard.server.metrics.refuse(causeLength)
			continue
		}
		src := addrPort(addr)
		verdict := d.guard.judge(p[:n], src)
		if verdict < answer {
			continue
		}
		d.asked = request{length: n, signed: isSTUN(p[:n]) && hasIntegrity(p[:n])}
		if verdict == pass {
			return n, addr, nil
		}
		if response, err := bindingResponse(p[:n], src); err == nil && d.mayAnswer(response, src) {
			_, _ = d.UDPConn.WriteTo(response, addr)
		}
	}
}

// WriteTo sends what pion has for a client. What is dropped counts as sent: pion could do nothing about it.
func (d *datagrams) WriteTo(p []byte, addr net.Addr) (int, error) {
	if src := addrPort(addr); isResponse(p) && !d.guard.known(src) && !d.mayAnswer(p, src) {
		return len(p), nil
	}
	return d.UDPConn.WriteTo(p, addr)
}

// mayAnswer is for strangers: their source address may be that of a victim. Unsigned requests were counted when
// they came.
func (d *datagrams) mayAnswer(response []byte, src netip.AddrPort) bool {
	const amplification = 2.5 // what a challenge needs; more would make us worth abusing
	switch {
	case float64(len(response)) > amplification*float64(d.asked.length):
		d.guard.server.metrics.refuse(causeAmplification)
		return false
	case d.asked.signed && isError(response) && !d.guard.server.challenges.take(src.Addr(), time.Now()):
		d.guard.server.metrics.refuse(causeChallenges)
		return false
	}
	return true
}

// Only the reader writes responses, so that it is safe to look at asked; indications and ChannelData come from
// relay sockets. RFC 8489 §5: the class is in bits 4 and 8 of the type.
func isResponse(b []byte) bool { return isSTUN(b) && b[0]&1 == 1 }

func isError(b []byte) bool { return isResponse(b) && b[1]&0x10 != 0 }
