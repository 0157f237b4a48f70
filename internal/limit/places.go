package limit

import "sync"

// Evictable is what holds a [Place].
type Evictable interface {
	// Evict tells the holder that its place went to a newcomer. It must not block. Any goroutine may call it, at most
	// once, and no lock of this package is held.
	Evict()
}

// Places bound how many places each key has at a time. A newcomer beyond that takes the place of the key's oldest
// holder that has not settled. Any goroutine may use them.
type Places[K comparable] struct {
	most int

	mu    sync.Mutex // guards all below and every Place and group
	taken map[K]*group[K]
}

// group is the places of one key.
type group[K comparable] struct {
	key    K
	places *Places[K]
	taken  int
	oldest *Place[K] // of those not settled; prev and next join them in a ring
}

// Place is one of a key's places. Its zero value is no place; embed it in what holds it.
type Place[K comparable] struct {
	group      *group[K] // nil when it is no place any more
	prev, next *Place[K] // nil once settled
	holder     Evictable
}

// NewPlaces are places of which each key has at most so many.
func NewPlaces[K comparable](most int) *Places[K] {
	return &Places[K]{most: most, taken: map[K]*group[K]{}}
}

// Enter gives a holder a place of a key. If the key has none left, the oldest holder that has not settled loses its
// own. If all have settled, Enter reports false. place must not be one already.
func (p *Places[K]) Enter(key K, place *Place[K], holder Evictable) bool {
	evicted, ok := p.enter(key, place, holder)
	if evicted != nil {
		evicted.Evict()
	}
	return ok
}

func (p *Places[K]) enter(key K, place *Place[K], holder Evictable) (evicted Evictable, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.taken[key]
	if g == nil {
		g = &group[K]{key: key, places: p}
		p.taken[key] = g
	}
	if g.taken >= p.most {
		oldest := g.oldest
		if oldest == nil {
			return nil, false
		}
		evicted = oldest.holder
		oldest.unlink()
		oldest.group = nil
		g.taken--
	}
	g.taken++
	place.group, place.holder = g, holder
	place.link()
	return evicted, true
}

// Settle keeps the place from being given to a newcomer. It counts until Leave.
func (p *Places[K]) Settle(place *Place[K]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if place.group != nil {
		place.unlink()
	}
}

// Leave gives the place up. It may be called again, and after the place was lost.
func (p *Places[K]) Leave(place *Place[K]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := place.group
	if g == nil {
		return
	}
	place.unlink()
	place.group, place.holder = nil, nil
	if g.taken--; g.taken == 0 {
		delete(p.taken, g.key)
	}
}

// Taken is how many places a key has at the moment.
func (p *Places[K]) Taken(key K) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.taken[key]; g != nil {
		return g.taken
	}
	return 0
}

// link makes a place the newest of its group.
func (e *Place[K]) link() {
	g := e.group
	if g.oldest == nil {
		g.oldest, e.prev, e.next = e, e, e
		return
	}
	newest := g.oldest.prev
	e.prev, e.next = newest, g.oldest
	newest.next, g.oldest.prev = e, e
}

// unlink takes a place out of its group's ring, if it is in it.
func (e *Place[K]) unlink() {
	if e.next == nil {
		return
	}
	g := e.group
	e.prev.next, e.next.prev = e.next, e.prev
	if g.oldest == e {
		g.oldest = e.next
	}
	if g.oldest == e { // it was alone
		g.oldest = nil
	}
	e.prev, e.next = nil, nil
}
