// Package outbox is what must reach the outside later: it tells devices without an
// open page, by Web Push, of calls that ring their user. It knows which devices
// there are, encrypts for each, and brings messages to the push services of the
// browsers' makers, in order and again where that failed. What a call is, it does
// not know, and it keeps no message over a restart: a ring is worth nothing then.
//
//	Subscribe ──▶ Devices (store), index
//	                          │
//	Push ──▶ each device's queue ──▶ send: seal (RFC 8291), sign (RFC 8292) ──▶ push service
//	Taken ◀───────────────────────────┘   └─ again later, or the device is forgotten
//
// Come in at [New], keep [Outbox.Run] running; [Outbox.Push] is what it is for.
package outbox

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/protocol"
)

const (
	// maxLetters bounds the messages that wait, of all devices.
	maxLetters = 10_000
	// maxDevices bounds the devices of all users: about 1 KB each in memory.
	maxDevices = 100_000
	// maxUserDevices is how many devices a user has; the one that was renewed
	// longest ago makes room for another.
	maxUserDevices = 10
	// forgetAfter is when a device is forgotten that was not renewed: a guest's token is
	// no good any more then, and nobody could accept a call there.
	forgetAfter = 180 * 24 * time.Hour
	// sendTimeout bounds one request to a push service.
	sendTimeout = 10 * time.Second
	// stopTimeout is how long Run goes on sending what is due when it ends.
	stopTimeout = 3 * time.Second
	// perService is how many requests one push service has at a time, so that one
	// that hangs holds up nobody else's.
	perService = 32
)

// Device is a browser that wants to be told of rings: a subscription of W3C's Push
// API, and whose it is.
type Device struct {
	User         protocol.User // id and name
	DoNotDisturb bool          // the user's wish, the same for all their devices
	// Endpoint is the URL that messages for it go to. A secret.
	Endpoint string
	// Key is its public key, an uncompressed point on P-256; Auth the secret that it
	// shares with us (RFC 8291 §3.2).
	Key, Auth []byte
	// CreatedAt is when it was subscribed first, RenewedAt when last.
	CreatedAt, RenewedAt time.Time
}

// Devices is where the devices outlive a restart.
type Devices interface {
	// All returns all devices. The one that was renewed longest ago is the first.
	All(context.Context) ([]Device, error)
	// Keep writes a device, in the place of the one with the same endpoint, if there is one. It writes name and wish
	// of its user to all devices of the user.
	Keep(context.Context, Device) error
	// Forget deletes the device with an endpoint, if there is one.
	Forget(ctx context.Context, endpoint string) error
}

// Config is what an [Outbox] is made of.
type Config struct {
	Devices Devices
	// HasCalled reports whether a user has ever been in a call: only such people are rung
	// while no page of theirs is open. Always, by default.
	HasCalled func(context.Context, protocol.UserID) (bool, error)
	// Secret is what the key is made of that push services know us by. Needed;
	// another one makes all subscriptions void.
	Secret []byte
	// Contact is whom a push service's operator may write to, mailto: or https:.
	// None by default; Apple's takes nothing without.
	Contact string
	// Services are the push services that may be sent to: a host, *. and a domain,
	// or an origin. [DefaultServices] by default.
	Services []string
	// Taken is called when a push service has taken the message of a call that rings.
	// It must not block. May be nil.
	Taken func(protocol.CallID)
	// Transport is what requests go by: HTTP by default, over the environment's proxy.
	Transport  http.RoundTripper
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
}

func (c *Config) validate() error {
	if c.Devices == nil || len(c.Secret) == 0 || c.Log == nil {
		return errors.New("outbox: devices, secret and log are needed")
	}
	if err := CheckContact(c.Contact); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	if len(c.Services) == 0 {
		c.Services = DefaultServices()
	}
	if c.HasCalled == nil {
		c.HasCalled = func(context.Context, protocol.UserID) (bool, error) { return true, nil }
	}
	if c.Taken == nil {
		c.Taken = func(protocol.CallID) {}
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 2 * time.Minute}
	}
	return nil
}

// Outbox knows the devices and sends to them. Its methods may be called by any
// goroutine.
type Outbox struct {
	cfg      Config
	services []*service
	signer   *ecdsa.PrivateKey // our VAPID key
	client   *http.Client
	metrics  metrics

	// changing has one element, taken by whoever changes the devices, so that store
	// and index change alike.
	changing chan struct{}
	stopping chan struct{} // closed when Run ends: nothing new, no waiting
	// sending is what requests go by; it ends stopTimeout after Run's context.
	sending context.Context
	abort   context.CancelFunc

	mu      sync.Mutex // guards all below
	people  map[protocol.UserID]*person
	byURL   map[string]*device
	rings   map[protocol.CallID]*ring // those that were pushed of late
	letters int                       // that wait, of all devices
	busy    int                       // devices with a goroutine
	idle    *sync.Cond
	closed  bool
}

// ring is a call that rings, or has rung a moment ago.
type ring struct {
	until   time.Time
	devices map[*device]bool // that were told, or are about to be
}

// person is a user with a device at least.
type person struct {
	user         protocol.User
	doNotDisturb bool
	devices      []*device // the one that was renewed longest ago first
}

// New reads which devices there are, and forgets those that were not renewed for
// half a year.
func New(ctx context.Context, cfg Config) (*Outbox, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	o := &Outbox{
		cfg: cfg, changing: make(chan struct{}, 1), stopping: make(chan struct{}),
		people: map[protocol.UserID]*person{}, byURL: map[string]*device{}, rings: map[protocol.CallID]*ring{},
	}
	o.idle = sync.NewCond(&o.mu)
	o.sending, o.abort = context.WithCancel(context.WithoutCancel(ctx))
	o.client = &http.Client{
		Transport: cfg.Transport, Timeout: sendTimeout,
		// Where a push service would send us is not on the list.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var err error
	if o.services, err = parseServices(cfg.Services); err != nil {
		return nil, err
	}
	if o.signer, err = newSigner(cfg.Secret); err != nil {
		return nil, err
	}
	kept, err := cfg.Devices.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the devices to push to: %w", err)
	}
	for _, d := range kept {
		if time.Since(d.RenewedAt) < forgetAfter {
			o.indexLocked(d) // nobody else is here yet
		} else if err := cfg.Devices.Forget(ctx, d.Endpoint); err != nil {
			return nil, fmt.Errorf("forget a device to push to: %w", err)
		}
	}
	o.metrics = newMetrics(cfg.Registerer, o.count)
	return o, nil
}

// Run lets messages be sent until ctx is done, then for 3 s at most what is due: not what waits to
// be tried again. It runs once; what is pushed after it is dropped.
func (o *Outbox) Run(ctx context.Context) error {
	<-ctx.Done()
	o.mu.Lock()
	o.closed = true
	close(o.stopping)
	o.mu.Unlock()
	timer := time.AfterFunc(stopTimeout, o.abort)
	defer timer.Stop()
	o.mu.Lock()
	for o.busy > 0 {
		o.idle.Wait()
	}
	o.mu.Unlock()
	o.abort()
	o.client.CloseIdleConnections()
	return nil
}

// Reachable is a user with a device, whether they want to be left alone, and
// whether there is such a user. It never waits for the database.
func (o *Outbox) Reachable(user protocol.UserID) (u protocol.User, doNotDisturb, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.people[user]
	if p == nil {
		return protocol.User{}, false, false
	}
	return p.user, p.doNotDisturb, true
}

// rememberedFor is how long after a ring it is known which devices were told of it: the
// message of what became of it comes at about the time at which the ring is over.
const rememberedFor = time.Minute

// missedFor is how long a push service keeps the message of a missed call.
const missedFor = 24 * time.Hour

// Push brings a message to every device of a user, in the place of one of the same
// call that waits. A device on which the user sees a page, one of shown, gets none unless
// it was told that the call rings, and each is told that once. It never blocks; where too
// many messages wait it is dropped and counted.
func (o *Outbox) Push(user protocol.UserID, m *protocol.Push, shown ...string) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.people[user]
	if p == nil {
		return
	}
	until := o.untilLocked(m, now)
	r := o.rings[m.Call]
	for _, d := range p.devices {
		told := r != nil && r.devices[d]
		switch {
		case r != nil && !told && slices.Contains(shown, d.id), told && m.State == protocol.PushRinging:
			continue
		case r != nil:
			r.devices[d] = true
		}
		switch {
		case o.closed:
			o.metrics.dropped.WithLabelValues(droppedStopped).Inc()
		case !d.replace(m, until) && o.letters >= maxLetters:
			o.metrics.dropped.WithLabelValues(droppedFull).Inc()
		default:
			o.addLocked(d, m, until)
		}
	}
}

// untilLocked is when a message is worth nothing any more: when the ring is over,
// which only the message of a call that rings tells.
func (o *Outbox) untilLocked(m *protocol.Push, now time.Time) time.Time {
	for id, r := range o.rings {
		if now.Sub(r.until) > rememberedFor {
			delete(o.rings, id)
		}
	}
	r := o.rings[m.Call]
	switch m.State {
	case protocol.PushRinging:
		if r == nil {
			r = &ring{devices: map[*device]bool{}}
			o.rings[m.Call] = r
		}
		r.until = now.Add(protocol.Duration(m.RingMs))
		return r.until
	case protocol.PushMissed:
		return now.Add(missedFor)
	}
	if least := now.Add(time.Second); r == nil || r.until.Before(least) {
		return least
	}
	return r.until
}

// count is how many devices there are.
func (o *Outbox) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byURL)
}
