package store

import (
	"sync"

	"github.com/visavis/visavis/internal/account"
)

// loginsBound is how many logins wait for the database: about 4 MB.
const loginsBound = 1 << 14

// loginQueue holds the logins that are not yet in the database. The writer takes batches out of it. Of several logins
// with the same hash it holds the latest. When loginsBound logins wait, it takes no others.
type loginQueue struct {
	wake signal // the writer's

	mu      sync.Mutex                     // guards all below
	waiting map[account.Hash]account.Login // without those in writing
	writing []account.Login                // those that the writer has taken and not yet written
	closed  bool
}

func newLoginQueue(wake signal) *loginQueue {
	return &loginQueue{wake: wake, waiting: map[account.Hash]account.Login{}}
}

// add queues a login. It does not block. It reports whether there was room.
func (q *loginQueue) add(l account.Login) bool {
	q.mu.Lock()
	_, waits := q.waiting[l.Hash]
	room := !q.closed && (waits || len(q.waiting) < loginsBound)
	if room {
		q.waiting[l.Hash] = l
	}
	q.mu.Unlock()
	if room {
		q.wake.raise()
	}
	return room
}

// take returns some of the logins, batchBound at most. The writer calls settle before it takes others.
func (q *loginQueue) take() []account.Login {
	q.mu.Lock()
	defer q.mu.Unlock()
	var batch []account.Login
	for hash, l := range q.waiting {
		if len(batch) == batchBound {
			break
		}
		batch = append(batch, l)
		delete(q.waiting, hash)
	}
	q.writing = batch
	return batch
}

// settle ends what take began. Logins that were not written wait again, unless they have changed meanwhile.
func (q *loginQueue) settle(written bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.writing {
		if _, newer := q.waiting[l.Hash]; !written && !newer && !q.closed {
			q.waiting[l.Hash] = l
		}
	}
	q.writing = nil
}

// find returns the login with a hash, if it is not yet written.
func (q *loginQueue) find(hash account.Hash) (account.Login, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l, ok := q.waiting[hash]; ok {
		return l, true
	}
	for _, l := range q.writing {
		if l.Hash == hash {
			return l, true
		}
	}
	return account.Login{}, false
}

// len returns how many logins are not yet written.
func (q *loginQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) + len(q.writing)
}

// close drops what waits, and refuses what comes later.
func (q *loginQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	clear(q.waiting)
}
