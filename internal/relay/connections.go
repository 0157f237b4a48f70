package relay

import "github.com/visavis/visavis/internal/limit"

// connections bound how many TCP and TLS connections there are, in all and of each source.
//
// A full source is no lock for its neighbors. A newcomer takes the place of the oldest connection of the source that
// has come to nothing yet: no allocation, no feed. An attacker who only connects must then be faster than a handshake
// and an allocation take, all the time. Only where every connection is in use is the newcomer refused.
type connections struct {
	all     *limit.Places[struct{}]
	sources *limit.Places[[16]byte]
}

// places are what a stream holds of both.
type places struct {
	inAll    limit.Place[struct{}]
	inSource limit.Place[[16]byte]
}

func newConnections(most, mostOfSource int) connections {
	return connections{limit.NewPlaces[struct{}](most), limit.NewPlaces[[16]byte](mostOfSource)}
}

// enter adds c, or tells that there is no room.
func (k *connections) enter(c *stream) bool {
	// The source comes first: the place that its newcomer takes there is one in all, too.
	if !k.sources.Enter(sourceOf(c.from.endpoint), &c.inSource, c) {
		return false
	}
	if !k.all.Enter(struct{}{}, &c.inAll, c) {
		k.sources.Leave(&c.inSource)
		return false
	}
	return true
}

// settle makes that c is not evicted any more: it has come to something.
func (k *connections) settle(c *stream) {
	k.sources.Settle(&c.inSource)
	k.all.Settle(&c.inAll)
}

// leave removes c. It may be called again.
func (k *connections) leave(c *stream) {
	k.sources.Leave(&c.inSource)
	k.all.Leave(&c.inAll)
}

// Evict implements [limit.Evictable]: c is counted no more.
func (c *stream) Evict() {
	c.server.metrics.drops.count(refuseConnections)
	c.server.connections.leave(c)
	c.hangUp()
}
