package relay

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"time"

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
	unknown []byte               // see notUnderstood
	macs    map[string]hash.Hash // by secretID
	text    []byte
}

func newAnswerer(c *control) *answerer {
	q := &answerer{
		control: c, nonces: newNonces(c.nonceKey),
		out: make([]byte, 0, 256), unknown: make([]byte, 0, longestRequest/2), macs: make(map[string]hash.Hash),
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
	signed := m.Has(wire.AttrMessageIntegrity)
	var code wire.Code
	switch {
	case !signed:
		code = wire.CodeUnauthorized
	case !ok || !m.Has(wire.AttrUsername) || !m.Has(wire.AttrRealm): // RFC 8489 §9.2.4
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
	if unknown := q.notUnderstood(m); len(unknown) > 0 {
		q.control.metrics.drops.count(refuseAttributes)
		out := wire.BeginError(q.out, m, wire.CodeUnknownAttribute, "")
		out = wire.AppendAttribute(out, wire.AttrUnknownAttributes, unknown...)
		return q.within(m, wire.EndResponse(out, marked))
	}
	out := wire.BeginSuccess(q.out, m)
	return q.within(m, wire.EndResponse(wire.AppendXORAddress(out, wire.AttrXORMappedAddress, &from.Address), marked))
}

// challenge answers a client that has proved nothing, or not enough.
func (q *answerer) challenge(m wire.Message, code wire.Code, from source, now time.Time, marked bool) []byte {
	c := q.control
	out := wire.BeginError(q.out, m, code, "")
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

// proved goes on with a request whose sender receives what is sent to its source address; until is for one that was held (pending.go).
func (q *answerer) proved(m wire.Message, from source, s *stream, now, until time.Time, marked bool) []byte {
	c := q.control
	signed, ok := m.Signed()
	if !ok || !m.WellFormed() {
		return q.challenge(m, wire.CodeBadRequest, from, now, marked)
	}
	claim, integrity, ok := q.key(signed, now)
	if !ok || !integrity.Verify(signed) {
		c.metrics.drops.count(refuseCredentials)
		return q.challenge(m, wire.CodeUnauthorized, from, now, marked)
	}
	no := unknownAttribute
	unknown := q.notUnderstood(signed)
	out := wire.BeginSuccess(q.out, m)
	if len(unknown) == 0 {
		out, no = c.do(&request{Message: signed, claim: claim, from: from, stream: s, now: now, whole: m, until: until}, out)
	}
	switch {
	case no == held:
		return nil
	case no != nil:
		c.metrics.drops.count(no.cause)
		out = wire.BeginError(q.out, m, no.code, no.code.Reason())
		if len(unknown) > 0 {
			out = wire.AppendAttribute(out, wire.AttrUnknownAttributes, unknown...)
		}
	}
	return wire.EndResponse(integrity.Append(out), marked)
}

// key is that of the sender's credentials (RFC 8489 §9.2.2), if they are ours and still good.
func (q *answerer) key(m wire.Message, now time.Time) (claim, *wire.Integrity, bool) {
	c := q.control
	username, _ := m.Attribute(wire.AttrUsername)
	realm, _ := m.Attribute(wire.AttrRealm)
	if len(username) > longestUsername || string(realm) != c.cfg.Realm {
		return claim{}, nil, false
	}
	cl, err := parseUsername(string(username))
	if err != nil {
		return claim{}, nil, false
	}
	good := cl.expires
	if m.Type() != wire.AllocateRequest {
		good = good.Add(afterExpiry)
	}
	mac, known := q.macs[cl.secretID]
	if !known || !now.Before(good) {
		return claim{}, nil, false
	}
	q.text = append(append(append(q.text[:0], username...), ':'), c.cfg.Realm...)
	q.text = appendPassword(append(q.text, ':'), mac, username)
	key := md5.Sum(q.text)
	return cl, wire.NewIntegrity(key[:]), true
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

// notUnderstood lists the attributes of m that have to be understood and are not, as UNKNOWN-ATTRIBUTES does. It is good
// until the next call.
func (q *answerer) notUnderstood(m wire.Message) []byte {
	q.unknown = q.unknown[:0]
	for rest := m.Attributes(); ; {
		kind, _, after, ok := rest.Next()
		if !ok {
			return q.unknown
		}
		if kind.Required() && !understood(kind) {
			q.unknown = binary.BigEndian.AppendUint16(q.unknown, uint16(kind))
		}
		rest = after
	}
}
