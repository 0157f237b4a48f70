// Package outbox sends Web Push messages: it tells devices without an open page of calls that ring their user.
//
// [New] makes an [Outbox] and reads the known devices. [Outbox.Subscribe] adds one. [Outbox.Push] queues a message for
// every device of a user. Keep [Outbox.Run] running in a goroutine of its own: it waits for the messages that are being
// sent when the server stops.
//
//	Subscribe ──▶ Devices (the store), and an index in memory
//	                    │
//	Push ──▶ a queue for each device ──▶ encrypt (RFC 8291), sign (RFC 8292) ──▶ push service of the browser's maker
//
// Each device gets its messages in order. Of the waiting messages of one call, only the latest is sent. The answer of the
// push service decides what follows: the message is taken, it is tried again later, or the device is forgotten.
//
// The package knows nothing of calls but their ids. It keeps no message over a restart: a ring would be over by then.
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
	// maxQueued is how many messages wait, for all devices together.
	maxQueued = 10_000
	// maxDevices is how many devices all users have together: about 1 KB each in memory.
	maxDevices = 100_000
	// maxUserDevices is how many devices one user has. A further one takes the place of the one that was renewed
	// longest ago.
	maxUserDevices = 10
	// forgetAfter is how long a device is kept that is not renewed. A guest's token has expired by then, so nobody could
	// accept a call on the device.
	forgetAfter = 180 * 24 * time.Hour
	// sendTimeout bounds one request to a push service.
	sendTimeout = 10 * time.Second
	// stopTimeout is how long Run goes on sending what is due after its context has ended.
	stopTimeout = 3 * time.Second
	// changeTimeout bounds a change of devices that has no context of a caller.
	changeTimeout = 10 * time.Second
	// perService is how many requests go to one push service at a time. So one that does not answer does not delay
	// messages to the others.
	perService = 32
)

// Device is a browser that wants to be told of rings: a subscription of the W3C Push API, and its user.
type Device struct {
	User         protocol.User // id and name
	DoNotDisturb bool          // the user's wish, the same for all their devices
	// Endpoint is the URL that its messages are sent to. It is a secret.
	Endpoint string
	// Key is the browser's public key, an uncompressed point on P-256. Auth is the secret that it shares with us
	// (RFC 8291 §3.2).
	Key, Auth []byte
	// CreatedAt is when the device was subscribed first, RenewedAt when last.
	CreatedAt, RenewedAt time.Time
}

// Devices keeps devices over a restart.
type Devices interface {
	// All returns all devices. The one that was renewed longest ago is the first.
	All(context.Context) ([]Device, error)
	// Keep writes a device, in the place of the one with the same endpoint, if there is one. It writes name and wish
	// of its user to all devices of the user.
	Keep(context.Context, Device) error
	// Forget deletes the device with an endpoint, if there is one.
	Forget(ctx context.Context, endpoint string) error
}

// Config is the configuration of an [Outbox].
type Config struct {
	Devices Devices // required
	// HasCalled reports whether a user has ever been in a call. Other users cannot subscribe their first device. By
	// default, everybody can.
	HasCalled func(context.Context, protocol.UserID) (bool, error)
	// Secret determines the key by which push services know us. If it changes, all subscriptions are void. Required.
	Secret []byte
	// Contact is a mailto: or https: URL at which the operator of a push service can reach us. It is empty by default.
	// Apple's push service refuses messages without a contact.
	Contact string
	// Services are the push services that the outbox sends to. Each is a host, *. and a domain, or an origin.
	// [DefaultServices] by default.
	Services []string
	// Taken is called when a push service has taken the message of a call that rings. It must not block. May be nil.
	Taken func(protocol.CallID)
	// Transport sends the requests. By default it is HTTP, over the proxy of the environment.
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

// Outbox knows the devices and sends messages to them. Its methods may be called by any goroutine.
//
// A device has a goroutine while messages wait for it. The outbox owns these goroutines: [Outbox.Run] waits for them.
type Outbox struct {
	cfg      Config
	services []*service
	signer   *ecdsa.PrivateKey // our VAPID key
	client   *http.Client
	metrics  metrics

	// changing is a lock that a context can give up: it has room for one element, which belongs to whoever changes
	// the devices. So the store and the index change alike.
	changing chan struct{}
	stopping chan struct{} // closed when Run's context ends: nothing is queued and nothing waits any more
	// sending is the context of requests. It ends stopTimeout after that of Run.
	sending context.Context
	abort   context.CancelFunc // ends sending
	senders sync.WaitGroup     // the goroutines of devices; none starts once closed is set

	mu         sync.Mutex // guards all below
	owners     map[protocol.UserID]*owner
	byEndpoint map[string]*device
	rings      map[protocol.CallID]*ring // those of the last minute
	// queued is how many messages wait, for all devices together: maxQueued at most, and those that are tried again.
	queued int
	closed bool // stopping is closed
}

// ring is a call that rings, or has rung within the last minute.
type ring struct {
	until   time.Time        // when the ring is over
	devices map[*device]bool // those that were told, or are about to be
}

// owner is a user with at least one device.
type owner struct {
	user         protocol.User
	doNotDisturb bool
	devices      []*device // the one that was renewed longest ago is the first
}

// New reads the known devices, and forgets those that were not renewed for half a year.
func New(ctx context.Context, cfg Config) (*Outbox, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	o := &Outbox{
		cfg: cfg, changing: make(chan struct{}, 1), stopping: make(chan struct{}),
		owners: map[protocol.UserID]*owner{}, byEndpoint: map[string]*device{}, rings: map[protocol.CallID]*ring{},
	}
	o.sending, o.abort = context.WithCancel(context.WithoutCancel(ctx))
	o.client = &http.Client{
		Transport: cfg.Transport, Timeout: sendTimeout,
		// A redirect could lead to a host that is no listed push service.
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

// Run waits until ctx ends, and then until all messages that are due are sent, for 3 s at most. It drops messages that
// wait to be tried again, and messages that are pushed later. When it returns, all goroutines of the outbox have ended.
// Call it once.
func (o *Outbox) Run(ctx context.Context) error {
	<-ctx.Done()
	o.mu.Lock()
	o.closed = true
	close(o.stopping)
	o.mu.Unlock()
	timer := time.AfterFunc(stopTimeout, o.abort)
	defer timer.Stop()
	o.senders.Wait()
	o.abort()
	o.client.CloseIdleConnections()
	return nil
}

// Reachable returns the user of that id and whether they do not want to be disturbed. ok is false for a user without a
// device. Reachable does not wait for the database.
func (o *Outbox) Reachable(user protocol.UserID) (u protocol.User, doNotDisturb, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.owners[user]
	if p == nil {
		return protocol.User{}, false, false
	}
	return p.user, p.doNotDisturb, true
}

// rememberedFor is how long after a ring the outbox remembers which devices were told of it. The message of how the
// call ended comes at about the time at which the ring is over.
const rememberedFor = time.Minute

// missedFor is how long a push service keeps the message of a missed call.
const missedFor = 24 * time.Hour

// Push queues a message for every device of a user. It replaces a waiting message of the same call.
//
// shown names the devices on which the user sees a page. Such a device gets a message only if it was told before that
// the call rings. Each device is told once that a call rings.
//
// Push does not block. If too many messages wait, the message is dropped and counted.
func (o *Outbox) Push(user protocol.UserID, m *protocol.Push, shown ...string) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.owners[user]
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
		case !d.replace(m, until) && o.queued >= maxQueued:
			o.metrics.dropped.WithLabelValues(droppedFull).Inc()
		default:
			o.addLocked(d, m, until)
		}
	}
}

// untilLocked returns when a message expires: when the ring of its call is over. Only the message of a call that rings
// says when that is, so untilLocked remembers it.
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

// count returns how many devices there are.
func (o *Outbox) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byEndpoint)
}
