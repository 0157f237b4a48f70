package outbox

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

// maxEndpoint bounds the URL of a subscription, in bytes.
const maxEndpoint = 2 << 10

// authBytes is the length of a subscription's secret (RFC 8291 §3.2).
const authBytes = 16

// device is one that is known, with what waits for it.
type device struct {
	Device          // guarded by Outbox.mu, as all below but endpoint and id
	endpoint string // never changes, nor does id
	id       string // what its page calls it; see [protocol.Show]
	// queue is what waits, one for each call: not what is being sent.
	queue []letter
	// busy says that a goroutine is at it; gone, that it is subscribed no more.
	busy, gone bool
	// tries counts the failures since the last success; notBefore is when to try
	// again, and heldUntil what the push service has said of that.
	tries                int
	notBefore, heldUntil time.Time
	wake                 chan struct{} // never closed; one element: look again
}

// letter is a message to a device, worth nothing from until on.
type letter struct {
	m     *protocol.Push
	until time.Time
}

// replace puts a message in the place of one of the same call that waits.
func (d *device) replace(m *protocol.Push, until time.Time) bool {
	i := slices.IndexFunc(d.queue, func(l letter) bool { return l.m.Call == m.Call })
	if i < 0 {
		return false
	}
	d.queue[i] = letter{m, until}
	return true
}

// Subscribe keeps a device of a user, or renews it. An error that the device's
// owner can do something about is a [*protocol.Error].
func (o *Outbox) Subscribe(ctx context.Context, user protocol.User, s *protocol.Subscription) error {
	now := time.Now()
	user.Presence = ""
	d := Device{User: user, DoNotDisturb: s.DoNotDisturb, Endpoint: s.Endpoint, CreatedAt: now, RenewedAt: now}
	var err error
	if d.Key, d.Auth, err = subscriptionKeys(s); err != nil {
		return err
	}
	if err := checkEndpoint(s.Endpoint); err != nil {
		return err
	}
	if o.serviceOf(s.Endpoint) == nil {
		return bad("endpoint belongs to no push service that this server sends to")
	}
	if err := o.mayRing(ctx, user.ID, s.Endpoint); err != nil {
		return err
	}
	release, err := o.change(ctx)
	if err != nil {
		return err
	}
	defer release()
	surplus, full := o.surplus(user.ID, s.Endpoint)
	if full {
		return protocol.Errorf(protocol.CodeFull, "the server has as many devices as it takes")
	}
	if err := o.cfg.Devices.Keep(ctx, d); err != nil {
		return fmt.Errorf("keep a device to push to: %w", err)
	}
	for _, endpoint := range surplus {
		if err := o.cfg.Devices.Forget(ctx, endpoint); err != nil {
			return fmt.Errorf("forget a device to push to: %w", err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, endpoint := range surplus {
		o.dropLocked(o.byURL[endpoint])
	}
	o.indexLocked(d)
	return nil
}

// mayRing refuses the first device of somebody who was in no call. A device that is there
// already is renewed, and moves with its browser to another user.
func (o *Outbox) mayRing(ctx context.Context, user protocol.UserID, endpoint string) error {
	o.mu.Lock()
	known := o.people[user] != nil || o.byURL[endpoint] != nil
	o.mu.Unlock()
	if known {
		return nil
	}
	has, err := o.cfg.HasCalled(ctx, user)
	switch {
	case err != nil:
		o.cfg.Log.Warn("a device cannot be subscribed: the records cannot be read", "err", err)
		return protocol.Errorf(protocol.CodeUnavailable, "the server cannot tell now whether you were in a call; try again in some seconds")
	case !has:
		return protocol.Errorf(protocol.CodeNoCallYet, "a device is rung only for somebody who has been in a call; call somebody first")
	}
	return nil
}

// SignOut forgets all devices of a user, which the store has forgotten already.
func (o *Outbox) SignOut(user protocol.UserID) {
	o.changing <- struct{}{}
	defer func() { <-o.changing }()
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.people[user]; p != nil {
		for _, d := range slices.Clone(p.devices) {
			o.dropLocked(d)
		}
	}
}

// Unsubscribe forgets a user's device; one that is not theirs, or not there, is fine.
func (o *Outbox) Unsubscribe(ctx context.Context, user protocol.UserID, endpoint string) error {
	release, err := o.change(ctx)
	if err != nil {
		return err
	}
	defer release()
	o.mu.Lock()
	d := o.byURL[endpoint]
	theirs := d != nil && d.User.ID == user
	o.mu.Unlock()
	if !theirs {
		return nil
	}
	return o.forget(ctx, endpoint)
}

// forget takes a device out of the store and the index; the caller has the change.
func (o *Outbox) forget(ctx context.Context, endpoint string) error {
	err := o.cfg.Devices.Forget(ctx, endpoint)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropLocked(o.byURL[endpoint])
	if err != nil {
		return fmt.Errorf("forget a device to push to: %w", err)
	}
	return nil
}

// change waits until nobody else changes the devices.
func (o *Outbox) change(ctx context.Context) (release func(), err error) {
	select {
	case o.changing <- struct{}{}:
		return func() { <-o.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// surplus are the devices of a user that another one takes the place of; full says
// that there is no place for any.
func (o *Outbox) surplus(user protocol.UserID, endpoint string) (endpoints []string, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, known := o.people[user], o.byURL[endpoint]
	if p == nil {
		return nil, known == nil && len(o.byURL) >= maxDevices
	}
	if known != nil && known.User.ID == user {
		return nil, false
	}
	for _, d := range p.devices[:max(len(p.devices)+1-maxUserDevices, 0)] {
		endpoints = append(endpoints, d.Endpoint)
	}
	return endpoints, known == nil && len(endpoints) == 0 && len(o.byURL) >= maxDevices
}

// indexLocked makes a device reachable, in the place of the one with its endpoint.
func (o *Outbox) indexLocked(d Device) {
	known := o.byURL[d.Endpoint]
	if known == nil || known.User.ID != d.User.ID {
		o.dropLocked(known) // what waits is for somebody else
		known = &device{endpoint: d.Endpoint, id: idOf(d.Endpoint), wake: make(chan struct{}, 1)}
	}
	known.Device = d
	o.byURL[d.Endpoint] = known
	p := o.people[d.User.ID]
	if p == nil {
		p = new(person)
		o.people[d.User.ID] = p
	}
	p.user, p.doNotDisturb = d.User, d.DoNotDisturb
	p.devices = append(slices.DeleteFunc(p.devices, func(other *device) bool { return other == known }), known)
}

// idOf is what the page of a device calls it, without giving its endpoint away.
func idOf(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// dropLocked makes a device unreachable and forgets what waits for it.
func (o *Outbox) dropLocked(d *device) {
	if d == nil {
		return
	}
	d.gone = true
	o.letters -= len(d.queue)
	d.queue = nil
	d.rouse()
	delete(o.byURL, d.endpoint)
	p := o.people[d.User.ID]
	p.devices = slices.DeleteFunc(p.devices, func(other *device) bool { return other == d })
	if len(p.devices) == 0 {
		delete(o.people, d.User.ID)
	}
}

// rouse has the device's goroutine look again, if it waits.
func (d *device) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func bad(sentence string) error { return protocol.Errorf(protocol.CodeBadMessage, sentence) }

// checkEndpoint refuses what no push service hands out; [Outbox.serviceOf] looks at
// where it leads to.
func checkEndpoint(endpoint string) error {
	printable := func(r rune) bool { return r > ' ' && r < 0x7f }
	if endpoint == "" || len(endpoint) > maxEndpoint || strings.ContainsFunc(endpoint, func(r rune) bool { return !printable(r) }) {
		return bad("endpoint is no URL of at most 2 KiB")
	}
	return nil
}

// subscriptionKeys are those of a browser (RFC 8291 §3.2), which writes them in
// base64url; some pad it.
func subscriptionKeys(s *protocol.Subscription) (key, auth []byte, err error) {
	decode := func(text string) []byte {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil {
			return nil
		}
		return raw
	}
	key, auth = decode(s.Keys.P256dh), decode(s.Keys.Auth)
	if _, err := ecdh.P256().NewPublicKey(key); err != nil || len(key) != pointBytes {
		return nil, nil, bad("keys.p256dh is no uncompressed point on P-256 in base64url")
	}
	if len(auth) != authBytes {
		return nil, nil, bad("keys.auth is not 16 bytes in base64url")
	}
	return key, auth, nil
}
