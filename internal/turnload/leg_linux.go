package turnload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pion/stun/v4"
	"golang.org/x/sys/unix"
)

const (
	// channel is the one that each leg has: the first of RFC 8656 §12.
	channel = 0x4000
	// RFC 8489 §6.2.1: the first wait, doubled each time, and how often.
	firstWait, tries = 500 * time.Millisecond, 4
	// renewEach leaves a second try before a permission ends, after 5 minutes (RFC 8656 §9).
	renewEach = 2 * time.Minute

	attrRequestedFamily = stun.AttrType(0x0017)
	protocolUDP         = 17
	familyIPv6          = 2
)

// A leg is an allocation with one channel: to its own peer, or to the next leg's relayed address. It is owned by the
// goroutine that opens it, then by its worker.
type leg struct {
	number             int
	server             netip.AddrPort
	client             int // sockets; connected
	peer               int // -1 for none
	local              netip.AddrPort
	relayed            netip.AddrPort
	bound              netip.AddrPort // what the channel leads to
	username, password string
	realm, nonce       []byte
}

// openLeg has an allocation for a new client.
func openLeg(ctx context.Context, cfg Config, number int) (*leg, error) {
	l := &leg{number: number, server: cfg.Server, client: -1, peer: -1}
	l.username, l.password = cfg.Credentials(number)
	var source netip.Addr
	if cfg.Server.Addr().Is4() && cfg.Server.Addr().IsLoopback() {
		source = netip.AddrFrom4([4]byte{127, 1 + byte(number>>16), byte(number >> 8), byte(number)})
	}
	var err error
	if l.client, err = dial(source, cfg.Server); err != nil {
		return l, fmt.Errorf("leg %d: connect to %s: %w", number+1, cfg.Server, err)
	}
	if l.local, err = localAddress(l.client); err != nil {
		return l, err
	}
	request := []stun.Setter{stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{protocolUDP, 0, 0, 0}}}
	if cfg.Server.Addr().Is6() {
		request = append(request, stun.RawAttribute{Type: attrRequestedFamily, Value: []byte{familyIPv6, 0, 0, 0}})
	}
	response, err := l.ask(ctx, stun.MethodAllocate, request...)
	if err != nil {
		return l, err
	}
	var relayed stun.XORMappedAddress
	if err := relayed.GetFromAs(response, stun.AttrXORRelayedAddress); err != nil {
		return l, fmt.Errorf("leg %d: the answer to Allocate: %w", number+1, err)
	}
	ip, _ := netip.AddrFromSlice(relayed.IP)
	l.relayed = netip.AddrPortFrom(ip.Unmap(), uint16(relayed.Port))
	return l, nil
}

// bindPeer opens the peer's socket and leads the channel there.
func (l *leg) bindPeer(ctx context.Context) error {
	at, err := l.openPeer()
	if err == nil && at.Port() == l.server.Port() {
		// A server refuses its own port on all of loopback. Another socket gets another port.
		taken := l.peer
		l.peer = -1
		at, err = l.openPeer()
		_ = unix.Close(taken)
	}
	if err != nil {
		return err
	}
	return l.bind(ctx, at)
}

// openPeer opens the peer's socket, and returns its address.
func (l *leg) openPeer() (netip.AddrPort, error) {
	peer, err := dial(l.local.Addr(), l.relayed)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("leg %d: connect to the relayed address %s: %w", l.number+1, l.relayed, err)
	}
	l.peer = peer
	return localAddress(peer)
}

// bind leads the channel to an address, which permits it, too (RFC 8656 §9).
func (l *leg) bind(ctx context.Context, to netip.AddrPort) error {
	l.bound = to
	_, err := l.ask(ctx, stun.MethodChannelBind, l.binding()...)
	return err
}

func (l *leg) binding() []stun.Setter {
	return []stun.Setter{
		stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{channel >> 8, channel & 0xff, 0, 0}},
		peerAddress(l.bound),
	}
}

// renew asks for more time for allocation, channel and permission, and waits for no answer: those come with the
// packets, to answered.
func (l *leg) renew() {
	_ = l.send(stun.MethodRefresh)
	_ = l.send(stun.MethodChannelBind, l.binding()...)
}

// answered takes a STUN message that came with the packets.
func (l *leg) answered(raw []byte) error {
	var response stun.Message
	if err := stun.Decode(raw, &response); err != nil || response.Type.Class != stun.ClassErrorResponse {
		return nil
	}
	code, _ := errorCode(&response)
	if code != stun.CodeStaleNonce {
		return l.refused(&response)
	}
	l.learn(&response)
	l.renew()
	return nil
}

// close ends the allocation, as far as it got.
func (l *leg) close() {
	if l.relayed.IsValid() {
		_ = l.send(stun.MethodRefresh, stun.RawAttribute{Type: stun.AttrLifetime, Value: make([]byte, 4)})
	}
	for _, fd := range []int{l.client, l.peer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// ask sends a request until it is answered. It blocks.
func (l *leg) ask(ctx context.Context, method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	for challenges := 0; ; challenges++ {
		signed := l.nonce != nil
		request, err := l.request(method, attributes)
		if err != nil {
			return nil, err
		}
		response, err := l.exchange(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("leg %d: %s at %s: %w", l.number+1, method, l.server, err)
		}
		if response.Type.Class == stun.ClassSuccessResponse {
			return response, nil
		}
		code, _ := errorCode(response)
		// RFC 8489 §9.2.5
		challenged := code == stun.CodeUnauthorized && !signed || code == stun.CodeStaleNonce && challenges < 3
		if !challenged || !l.learn(response) {
			return nil, l.refused(response)
		}
	}
}

func (l *leg) request(method stun.Method, attributes []stun.Setter) (*stun.Message, error) {
	setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
	if l.nonce != nil {
		setters = append(setters,
			stun.NewUsername(l.username), stun.Realm(l.realm), stun.Nonce(l.nonce),
			stun.NewLongTermIntegrity(l.username, string(l.realm), l.password))
	}
	message, err := stun.Build(append(setters, stun.Fingerprint)...)
	if err != nil {
		return nil, fmt.Errorf("leg %d: make a request: %w", l.number+1, err)
	}
	return message, nil
}

// send sends a request without waiting.
func (l *leg) send(method stun.Method, attributes ...stun.Setter) error {
	request, err := l.request(method, attributes)
	if err != nil {
		return err
	}
	_, err = unix.Write(l.client, request.Raw)
	return err
}

// exchange sends request, again and again while no answer comes.
func (l *leg) exchange(ctx context.Context, request *stun.Message) (*stun.Message, error) {
	wait := firstWait
	for range tries {
		// What came of the one before, such as ICMP's word that nobody is there, is told now.
		if _, err := unix.Write(l.client, request.Raw); err != nil {
			return nil, err
		}
		for deadline := time.Now().Add(wait); ; {
			response, err := receive(ctx, l.client, time.Until(deadline))
			if err != nil {
				return nil, err
			}
			if response == nil {
				break
			}
			if response.TransactionID == request.TransactionID {
				return response, nil
			}
		}
		wait *= 2
	}
	return nil, ErrSilent
}

// receive waits for a STUN message; it is nil when none comes.
func receive(ctx context.Context, fd int, wait time.Duration) (*stun.Message, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(wait); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil
		}
		// Not too long, so that the end of ctx is seen.
		n, err := unix.Poll(poll, int(min(left, 100*time.Millisecond)/time.Millisecond)+1)
		if n < 1 || errors.Is(err, unix.EINTR) {
			continue
		}
		n, err = unix.Read(fd, buf)
		if err != nil {
			return nil, err
		}
		var message stun.Message
		if stun.Decode(buf[:n], &message) == nil {
			return &message, nil
		}
	}
}

// learn takes the nonce and realm of a challenge.
func (l *leg) learn(response *stun.Message) bool {
	nonce, err := response.Get(stun.AttrNonce)
	if err != nil {
		return false
	}
	l.nonce = nonce
	if realm, err := response.Get(stun.AttrRealm); err == nil {
		l.realm = realm
	}
	return l.realm != nil
}

func (l *leg) refused(response *stun.Message) error {
	code, reason := errorCode(response)
	return &RefusedError{Leg: l.number, Method: response.Type.Method.String(), Code: int(code), Reason: reason}
}

func errorCode(response *stun.Message) (stun.ErrorCode, string) {
	var code stun.ErrorCodeAttribute
	if err := code.GetFrom(response); err != nil {
		return 0, "without an error code"
	}
	return code.Code, string(code.Reason)
}

type peerAddress netip.AddrPort

// AddTo implements stun.Setter.
func (p peerAddress) AddTo(m *stun.Message) error {
	at := netip.AddrPort(p)
	address := stun.XORMappedAddress{IP: at.Addr().AsSlice(), Port: int(at.Port())}
	return address.AddToAs(m, stun.AttrXORPeerAddress)
}

// socketBuffer holds what comes while its worker looks elsewhere; the system may grant less.
const socketBuffer = 1 << 20

// dial opens a socket from an address, if one is given, that talks to another alone.
func dial(from netip.Addr, to netip.AddrPort) (int, error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	if err == nil && from.IsValid() {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0)))
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
}

func localAddress(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), uint16(name.Port)), nil
	}
	return netip.AddrPort{}, errors.New("socket of an unknown family")
}

// channelData writes the header of a packet with n bytes.
func channelData(b []byte, n int) {
	binary.BigEndian.PutUint16(b, channel)
	binary.BigEndian.PutUint16(b[2:], uint16(n))
}
