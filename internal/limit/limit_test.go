package limit_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/limit"
)

func TestSourceIsOneCustomer(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.7", "192.0.2.7"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"2001:db8:1:2:ffff::", "2001:db8:1:2::"},
		{"fe80::1%eth0", "fe80::"},
	} {
		if got := limit.Source(netip.MustParseAddr(c.addr)); got != netip.MustParseAddr(c.want) {
			t.Errorf("Source(%s) = %s, want %s", c.addr, got, c.want)
		}
	}
	if got := limit.Source(netip.Addr{}); got.IsValid() {
		t.Errorf("Source of no address = %s, want none", got)
	}
}

func TestBuckets(t *testing.T) {
	b := limit.NewBuckets[string](limit.Rate{Every: time.Second, Burst: 3}, 0)
	now := time.Unix(1000, 0)
	take := func(key string, want bool) {
		t.Helper()
		if got := b.Allow(key, now); got != want {
			t.Errorf("Allow(%s) at %s = %t, want %t", key, now.Format("05.0"), got, want)
		}
	}
	for range 3 {
		take("ann", true)
	}
	take("ann", false)
	take("bob", true)
	if got := b.Wait("ann", now); got != time.Second {
		t.Errorf("Wait with an empty bucket = %s, want 1s", got)
	}
	now = now.Add(time.Second)
	if got := b.Wait("ann", now); got != 0 {
		t.Errorf("Wait with a token = %s, want 0", got)
	}
	take("ann", true)
	take("ann", false)
	b.Refill("ann")
	for range 3 {
		take("ann", true)
	}
	take("ann", false)
	now = now.Add(time.Hour)
	for range 3 {
		take("ann", true)
	}
	take("ann", false)
}

// A key that is used all the time must not be forgotten with those that came with it.
func TestBucketsRememberWhoIsBusy(t *testing.T) {
	b := limit.NewBuckets[int](limit.Rate{Every: time.Hour, Burst: 2}, 100)
	now := time.Unix(1000, 0)
	allowed := 0
	for i := range 10_000 {
		now = now.Add(time.Second)
		b.Allow(i+1, now)
		if b.Allow(0, now) {
			allowed++
		}
	}
	if allowed != 4 { // two at once, and one after each of two hours
		t.Errorf("a busy key was allowed %d times in 10,000 s, want 4: keys that pass by must not refill it", allowed)
	}
}

func TestBucketsForgetWhatTheyNeedNot(t *testing.T) {
	b := limit.NewBuckets[int](limit.Rate{Every: time.Second, Burst: 2}, 0)
	now := time.Unix(1000, 0)
	for i := range 10_000 {
		b.Allow(i, now)
	}
	for range 2 {
		now = now.Add(2 * time.Second)
		b.Allow(-1, now)
	}
	if got := b.Remembered(); got > 2 { // the last one, young and old
		t.Errorf("%d keys are remembered whose buckets are full again, want 2 at most", got)
	}
}

func TestBucketsAreBounded(t *testing.T) {
	b := limit.NewBuckets[int](limit.Rate{Every: time.Hour, Burst: 2}, 1000)
	now := time.Unix(1000, 0)
	for i := range 100_000 {
		b.Allow(i, now)
	}
	if got := b.Remembered(); got > 1000 {
		t.Errorf("%d keys are remembered, want 1000 at most", got)
	}
}

type holder struct {
	limit.Place[string]

	evicted int
}

func (h *holder) Evict() { h.evicted++ }

func TestPlacesGoToNewcomers(t *testing.T) {
	places := limit.NewPlaces[string](2)
	enter := func(key string, want bool) *holder {
		t.Helper()
		h := &holder{}
		if got := places.Enter(key, &h.Place, h); got != want {
			t.Errorf("Enter(%s) = %t, want %t", key, got, want)
		}
		return h
	}
	first, second, third := enter("ann", true), enter("ann", true), enter("ann", true)
	other := enter("bob", true)
	if first.evicted != 1 || second.evicted+third.evicted+other.evicted != 0 {
		t.Errorf("evicted: %d, %d, %d, %d, want the first once", first.evicted, second.evicted, third.evicted, other.evicted)
	}
	places.Leave(&first.Place) // has no place any more
	if got := places.Taken("ann"); got != 2 {
		t.Errorf("%d places are taken, want 2", got)
	}
	places.Settle(&second.Place)
	enter("ann", true)
	if second.evicted != 0 || third.evicted != 1 {
		t.Errorf("evicted: the settled %d times, the other %d, want 0 and 1", second.evicted, third.evicted)
	}
	places.Leave(&second.Place)
	places.Leave(&second.Place)
	if got := places.Taken("ann"); got != 1 {
		t.Errorf("%d places are taken, want 1", got)
	}
}

func TestPlacesRunOutWhereAllHaveSettled(t *testing.T) {
	places := limit.NewPlaces[string](2)
	var all [3]holder
	for i := range 2 {
		places.Enter("ann", &all[i].Place, &all[i])
		places.Settle(&all[i].Place)
	}
	if places.Enter("ann", &all[2].Place, &all[2]) {
		t.Error("a third came in, want no place")
	}
	places.Leave(&all[2].Place)
	places.Leave(&all[0].Place)
	if !places.Enter("ann", &all[2].Place, &all[2]) {
		t.Error("no place although one had left")
	}
	for i := range all {
		places.Leave(&all[i].Place)
	}
	if got := places.Taken("ann"); got != 0 {
		t.Errorf("%d places are taken, want none", got)
	}
}
