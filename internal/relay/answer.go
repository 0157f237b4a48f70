package relay

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"math"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	// amplification is what a challenge needs; more would make us worth abusing.
	amplification = 2.5
	// longestRequest is more than any TURN client has to ask.
	longestRequest = 1280
	// longestUsername is RFC 8489 §14.3.
	longestUsername = 508
)

// An answerer answers requests that control.admit has let through, one at a time. A client that has not proved its
// address costs no memory and no state, and the rate of answers to it is bounded: they may go to a victim (admit.go).
//
//	Binding ───────────────────────────────────────▶ address seen
//	no MESSAGE-INTEGRITY ──────────────────────────▶ 401 with a nonce for this source
//	nonce of another source or time ───────────────▶ 438 with a new one
//	── from here on the source is proved ──
//	user name unknown or expired, signature wrong ─▶ 401
//	attribute that has to be understood, but is not ▶ 420
//	else ──────────────────────────────────────────▶ control.do
type answerer struct {
	control *control
	nonces  *nonces
	out     []byte
	in      []byte // what pion/stun works on: it writes behind the message
	unknown []byte // attributes that a Binding request should not have

	request, response stun.Message
	macs              map[string]hash.Hash // by secretID
	text              []byte
}

func newAnswerer(c *control) *answerer {
	q := &answerer{
		control: c, nonces: newNonces(c.nonceKey),
		out: make([]byte, 0, 256), in: make([]byte, 0, longestRequest+64), unknown: make([]byte, 0, longestRequest/2), macs: make(map[string]hash.Hash),
	}
	for id, secret := range c.secrets {
		q.macs[id] = hmac.New(sha256.New, secret)
	}
	return q
}

// answer returns the response to the request m, good until the next call, or nil: the control plane may send one later.
func (q *answerer) answer(m wire.Message, from source, s *stream, now time.Time) []byte {
	c := q.control
	marked, right := m.Fingerprint()
	switch {
	case len(m) > longestRequest:
		return q.drop(dropLength)
	case !right || !answered(m.Type()):
		return q.drop(dropShape)
	case m.Type() == wire.BindingRequest:
		return q.binding(m, from, marked)
	}
	nonce, ok := m.Attribute(wire.AttrNonce)
	_, signed := m.Attribute(wire.AttrMessageIntegrity)
	_, named := m.Attribute(wire.AttrUsername)
	_, placed := m.Attribute(wire.AttrRealm)
	var code wire.Code
	switch {
	case !signed:
		code = wire.CodeUnauthorized
	case !ok || !named || !placed: // RFC 8489 §9.2.4
		code = wire.CodeBadRequest
	case !q.nonces.fresh(nonce, now, from):
		code = wire.CodeStaleNonce
	case s == nil && !c.admissions.signed.take(&from.endpoint, c.of(&from, nil) != nil, c.clock(now)):
		return q.drop(dropRate)
	default:
		return q.proved(m, from, s, now, time.Time{}, marked)
	}
	if signed && s == nil && !c.admissions.challenges.take(&from.endpoint, c.of(&from, nil) != nil, c.clock(now)) {
		return q.drop(dropChallenges)
	}
	return q.challenge(m, code, from, now, marked)
}

func (q *answerer) drop(why cause) []byte {
	q.control.metrics.drops.count(why)
	return nil
}

// binding is RFC 8489 §6.3.1; there is nothing in it to be understood.
func (q *answerer) binding(m wire.Message, from source, marked bool) []byte {
	q.unknown = q.unknown[:0]
	for rest := m.Attributes(); ; {
		kind, _, after, ok := rest.Next()
		if !ok {
			break
		}
		if kind.Required() && !understood(kind) {
			q.unknown = binary.BigEndian.AppendUint16(q.unknown, uint16(kind))
		}
		rest = after
	}
	if len(q.unknown) > 0 {
		q.control.metrics.drops.count(refuseAttributes)
		out := wire.BeginError(q.out, m, wire.CodeUnknownAttribute)
		out = wire.AppendAttribute(out, wire.AttrUnknownAttributes, q.unknown...)
		return q.within(m, wire.EndResponse(out, marked))
	}
	out := wire.BeginSuccess(q.out, m)
	return q.within(m, wire.EndResponse(wire.AppendXORAddress(out, wire.AttrXORMappedAddress, &from.Address), marked))
}

// challenge answers a client that has proved nothing, or not enough.
func (q *answerer) challenge(m wire.Message, code wire.Code, from source, now time.Time, marked bool) []byte {
	c := q.control
	out := wire.BeginError(q.out, m, code)
	switch code {
	case wire.CodeBadRequest:
		c.metrics.drops.count(refuseMalformed)
	case wire.CodeStaleNonce:
		c.metrics.drops.count(refuseNonce)
		fallthrough
	default:
		out = append(out, c.realm...)
		out = append(out, 0, byte(wire.AttrNonce), 0, nonceText)
		out = q.nonces.append(out, now, from)
	}
	return q.within(m, wire.EndResponse(out, marked))
}

// within drops a response that is too long for its request.
func (q *answerer) within(b, response []byte) []byte {
	if float64(len(response)) > amplification*float64(len(b)) {
		return q.drop(dropAmplification)
	}
	return response
}

// proved goes on with a request whose sender receives what is sent to its source address; until is for one that was parked.
func (q *answerer) proved(b []byte, from source, s *stream, now, until time.Time, marked bool) []byte {
	c := q.control
	q.in = append(q.in[:0], b...)
	m := &q.request
	m.Raw = q.in
	if m.Decode() != nil {
		return q.challenge(b, wire.CodeBadRequest, from, now, marked)
	}
	claim, key, ok := q.key(m, now)
	if !ok || key.Check(m) != nil {
		c.metrics.drops.count(refuseCredentials)
		return q.challenge(b, wire.CodeUnauthorized, from, now, marked)
	}
	cutUnsigned(m)
	var list []stun.Setter
	var no *refusal
	if unknown := notUnderstood(m); unknown != nil {
		no = &refusal{wire.CodeUnknownAttribute, refuseAttributes}
		list = append(list, unknown)
	} else {
		list, no = c.do(&request{Message: m, claim: claim, from: from, stream: s, now: now, bytes: b, until: until})
	}
	if no == waiting {
		return nil
	}
	kind := stun.NewType(m.Type.Method, stun.ClassSuccessResponse)
	if no != nil {
		c.metrics.drops.count(no.cause)
		kind.Class = stun.ClassErrorResponse
		list = append([]stun.Setter{stun.ErrorCode(no.code)}, list...)
	}
	list = append([]stun.Setter{stun.NewTransactionIDSetter(m.TransactionID), kind}, append(list, key)...)
	if marked {
		list = append(list, stun.Fingerprint)
	}
	if q.response.Build(list...) != nil {
		return q.drop(dropFailed)
	}
	return q.response.Raw
}

// key is that of the sender's credentials (RFC 8489 §9.2.2), if they are ours and still good.
func (q *answerer) key(m *stun.Message, now time.Time) (claim, stun.MessageIntegrity, bool) {
	c := q.control
	username, _ := m.Get(stun.AttrUsername)
	realm, _ := m.Get(stun.AttrRealm)
	if len(username) > longestUsername || string(realm) != c.cfg.Realm {
		return claim{}, nil, false
	}
	cl, err := parseUsername(string(username))
	if err != nil {
		return claim{}, nil, false
	}
	good := cl.expires
	if m.Type.Method != stun.MethodAllocate {
		good = good.Add(afterExpiry)
	}
	mac, known := q.macs[cl.secretID]
	if !known || !now.Before(good) {
		return claim{}, nil, false
	}
	q.text = append(append(append(q.text[:0], username...), ':'), c.cfg.Realm...)
	q.text = appendPassword(append(q.text, ':'), mac, username)
	key := md5.Sum(q.text)
	return cl, key[:], true
}

// cutUnsigned takes away what follows MESSAGE-INTEGRITY: nobody has signed it (RFC 8489 §14.5).
func cutUnsigned(m *stun.Message) {
	for i, a := range m.Attributes {
		if a.Type == stun.AttrMessageIntegrity {
			m.Attributes = m.Attributes[:i+1]
			return
		}
	}
}

// answered tells whether a message is a request that we answer.
func answered(t wire.Type) bool {
	switch t {
	case wire.BindingRequest, wire.AllocateRequest, wire.RefreshRequest, wire.CreatePermissionRequest, wire.ChannelBindRequest:
		return true
	}
	return false
}

// understood tells whether we know an attribute that has to be understood.
func understood(kind wire.Attr) bool {
	switch kind {
	case wire.AttrUsername, wire.AttrMessageIntegrity, wire.AttrErrorCode, wire.AttrUnknownAttributes, wire.AttrRealm,
		wire.AttrNonce, wire.AttrMappedAddress, wire.AttrXORMappedAddress, wire.AttrChannelNumber, wire.AttrLifetime,
		wire.AttrXORPeerAddress, wire.AttrData, wire.AttrXORRelayedAddress, wire.AttrRequestedAddressFamily,
		wire.AttrEvenPort, wire.AttrRequestedTransport, wire.AttrReservationToken:
		return true
	case wire.AttrDontFragment: // RFC 8656 §7.2
		return setsDF
	}
	return false
}

func notUnderstood(m *stun.Message) stun.Setter {
	var list []byte
	for _, a := range m.Attributes {
		if a.Type.Required() && !understood(wire.Attr(a.Type)) {
			list = binary.BigEndian.AppendUint16(list, uint16(a.Type))
		}
	}
	if list == nil {
		return nil
	}
	return attr{stun.AttrUnknownAttributes, list}
}

// What responses are made of, beside pion/stun's own.

type attr struct {
	kind  stun.AttrType
	value []byte
}

// AddTo is stun.Setter's.
func (a attr) AddTo(m *stun.Message) error {
	m.Add(a.kind, a.value)
	return nil
}

type address struct {
	kind stun.AttrType
	endpoint
}

// AddTo is stun.Setter's.
func (a address) AddTo(m *stun.Message) error {
	ap := a.AddrPort()
	x := stun.XORMappedAddress{IP: ap.Addr().AsSlice(), Port: int(ap.Port())}
	return x.AddToAs(m, a.kind)
}

type seconds time.Duration

// AddTo is stun.Setter's.
func (s seconds) AddTo(m *stun.Message) error {
	n := time.Duration(s) / time.Second
	if n < 0 || n > math.MaxUint32 {
		return errors.New("lifetime out of range")
	}
	m.Add(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, uint32(n)))
	return nil
}
