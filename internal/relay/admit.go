package relay

import (
	"encoding/binary"

	"github.com/visavis/visavis/internal/relay/wire"
)

// Admission of requests: how many are answered, before anybody has proved anything.
//
// One address is not one person: an office behind a translator has one, and so has everybody behind a masquerade or a
// TLS multiplexer. And a UDP source address proves nothing: anybody can forge it. Three rules follow.
//
// A UDP request is counted for its address and port. One client therefore uses up what is its own, and a forger who
// does not know the port of a client takes nothing from it.
//
// All ports of a source share a second, much larger bound. It limits what a forger makes us send to a victim: at 1000
// answers of 68 bytes a second that is 0.5 Mbit/s, for 0.2 Mbit/s of the forger's own. A bucket that is empty all the
// time still answers at its rate, whoever comes first; so beyond the bound a newcomer needs several of the
// retransmissions that it makes anyway (RFC 8489 §6.2.1), or TCP. A client with an allocation is exempt.
//
// A TCP or TLS source is proved by its handshake, and an answer is not longer for a victim: each connection has a
// bucket of its own.
type admissions struct {
	bindings   admission // answers to Binding requests
	challenges admission // errors that carry a nonce
	signed     admission // requests with a nonce of ours
	perStream  int64     // ns for one request on a stream, of any kind
	streamMost int64     // ns that a stream may save up
}

// signedShare is how many signed requests are admitted for each challenge: a client that gathers is challenged once,
// and then asks for permissions and channels.
const signedShare = 10

func newAdmissions(cfg Config) admissions {
	rate, burst := cfg.ChallengeRate, cfg.ChallengeBurst
	of := func(times int) admission {
		return admission{
			endpoints: newHashedBuckets(times*rate, times*burst),
			sources:   newHashedBuckets(times*cfg.SourceRequests, times*cfg.SourceRequests*sourceBurst),
		}
	}
	s := of(signedShare)
	return admissions{
		bindings: of(1), challenges: of(1), signed: s,
		perStream: s.endpoints.cost, streamMost: s.endpoints.depth,
	}
}

// sourceBurst is how many seconds' worth of requests a source may save up. With the default 5000 challenges, 600 people
// behind one address may gather at the same moment, at eight allocations each.
const sourceBurst = 5

// An admission bounds one kind of answer over UDP.
type admission struct{ endpoints, sources *hashedBuckets }

// take tells whether one more answer may go to an endpoint. known is for a client with an allocation.
func (a *admission) take(to *endpoint, known bool, now int64) bool {
	var key [18]byte
	copy(key[:], to.IP[:])
	binary.BigEndian.PutUint16(key[16:], to.Port)
	if !a.endpoints.take(key[:], now) {
		return false
	}
	source := sourceOf(*to)
	return known || a.sources.take(source[:], now)
}

// admit tells whether the STUN message m is worth an answer, as far as that can be said without a proof. A worker asks
// before it queues it: a flood from one source then costs the others no room in the queue. It takes no lock.
func (c *control) admit(m wire.Message, from *source, s *stream, now int64) cause {
	if !answered(m.Type()) {
		return dropShape
	}
	binding := m.Type() == wire.BindingRequest
	_, signed := m.Attribute(wire.AttrMessageIntegrity)
	switch {
	case s != nil:
		if !s.asked.take(now, c.admissions.perStream, c.admissions.streamMost) {
			return dropRate
		}
	case binding:
		if !c.admissions.bindings.take(&from.endpoint, c.of(from, nil) != nil, now) {
			return dropChallenges
		}
	case !signed:
		if !c.admissions.challenges.take(&from.endpoint, c.of(from, nil) != nil, now) {
			return dropChallenges
		}
	}
	return none
}
