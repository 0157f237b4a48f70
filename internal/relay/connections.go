package relay

import (
	"container/list"
	"sync"
)

// connections are the TCP and TLS connections that there are: bounded, and for each source.
//
// A full source is no lock for its neighbors. A newcomer takes the place of the oldest connection of the source that
// has come to nothing yet: no allocation, no feed. An attacker who only connects must then be faster than a handshake
// and an allocation take, all the time. Only where every connection is in use is the newcomer refused.
type connections struct {
	most, mostOfSource int

	mu      sync.Mutex
	streams map[*stream]places                // guarded by mu
	sources map[[16]byte]*sourceOfConnections // guarded by mu: those with a connection
	waiting list.List                         // guarded by mu: of *stream, oldest first; some are in use by now
}

type sourceOfConnections struct {
	count   int
	waiting list.List // as connections.waiting
}

// places are where a stream stands in the two lists.
type places struct {
	source            *sourceOfConnections
	inAll, inOfSource *list.Element
}

func newConnections(most, mostOfSource int) *connections {
	return &connections{
		most: most, mostOfSource: mostOfSource,
		streams: make(map[*stream]places), sources: make(map[[16]byte]*sourceOfConnections),
	}
}

// enter adds c, or tells that there is no room. The caller hangs up on evicted, if it is not nil: it is counted no more.
func (k *connections) enter(c *stream) (evicted *stream, ok bool) {
	key := sourceOf(c.from.endpoint)
	k.mu.Lock()
	defer k.mu.Unlock()
	source := k.sources[key]
	switch {
	case source != nil && source.count >= k.mostOfSource:
		evicted = oldestUnused(&source.waiting)
	case len(k.streams) >= k.most:
		evicted = oldestUnused(&k.waiting)
	}
	if evicted != nil {
		k.leaveLocked(evicted)
		source = k.sources[key] // gone, if that was the only one
	}
	if source != nil && source.count >= k.mostOfSource || len(k.streams) >= k.most {
		return nil, false
	}
	if source == nil {
		source = new(sourceOfConnections)
		k.sources[key] = source
	}
	source.count++
	k.streams[c] = places{source, k.waiting.PushBack(c), source.waiting.PushBack(c)}
	return evicted, true
}

// oldestUnused forgets those of waiting that are in use before it.
func oldestUnused(waiting *list.List) *stream {
	for e := waiting.Front(); e != nil; e = waiting.Front() {
		if c := e.Value.(*stream); !c.used() {
			return c
		}
		waiting.Remove(e)
	}
	return nil
}

// leave removes c. It is false if c was not there: it was evicted.
func (k *connections) leave(c *stream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leaveLocked(c)
}

func (k *connections) leaveLocked(c *stream) bool {
	p, there := k.streams[c]
	if !there {
		return false
	}
	delete(k.streams, c)
	k.waiting.Remove(p.inAll) // does nothing where it is not in the list
	p.source.waiting.Remove(p.inOfSource)
	if p.source.count--; p.source.count == 0 {
		delete(k.sources, sourceOf(c.from.endpoint))
	}
	return true
}

// all returns those that there are.
func (k *connections) all() []*stream {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]*stream, 0, len(k.streams))
	for c := range k.streams {
		list = append(list, c)
	}
	return list
}
