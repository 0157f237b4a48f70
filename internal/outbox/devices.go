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

// device is a known device, with the messages that wait for it.
type device struct {
	endpoint string        // never changes
	id       string        // what its page calls it, see [protocol.Show]; never changes
	wake     chan struct{} // never closed; one element tells the device's goroutine to look again

	// All below is guarded by Outbox.mu.
	Device
	queue []queuedPush // at most one message of each call, without the one that is being sent
	busy  bool         // it has a goroutine
	gone  bool         // it is no longer subscribed
	tries int          // failures since the last success
	// notBefore is when to try again. heldUntil is the earliest time that the push service has asked for.
	notBefore, heldUntil time.Time
}

// queuedPush is a message that waits for a device. It expires at until.
type queuedPush struct {
	m     *protocol.Push
	until time.Time
}

// replace replaces a waiting message of the same call. It reports whether there was one.
func (d *device) replace(m *protocol.Push, until time.Time) bool {
	i := slices.IndexFunc(d.queue, func(q queuedPush) bool { return q.m.Call == m.Call })
	if i < 0 {
		return false
	}
	d.queue[i] = queuedPush{m, until}
	return true
}

// Subscribe adds or renews a device of a user. An error is a [*protocol.Error] if the user or their browser can do
// something about it.
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
		return badMessage("endpoint belongs to no push service that this server sends to")
	}
	if err := o.mayBeRung(ctx, user.ID, s.Endpoint); err != nil {
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
		o.dropLocked(o.byEndpoint[endpoint])
	}
	o.indexLocked(d)
	return nil
}

// mayBeRung refuses the first device of a user who was in no call. A known device is renewed in any case, also if
// another user has the browser now.
func (o *Outbox) mayBeRung(ctx context.Context, user protocol.UserID, endpoint string) error {
	o.mu.Lock()
	known := o.owners[user] != nil || o.byEndpoint[endpoint] != nil
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

// SignOut removes all devices of a user from the index. The store has deleted them already.
//
// SignOut waits for other changes of devices, for changeTimeout at most. After that it removes the devices anyway: a
// user who has signed out must not be rung any more.
func (o *Outbox) SignOut(user protocol.UserID) {
	ctx, cancel := context.WithTimeout(o.sending, changeTimeout)
	defer cancel()
	if release, err := o.change(ctx); err == nil {
		defer release()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.owners[user]; p != nil {
		for _, d := range slices.Clone(p.devices) {
			o.dropLocked(d)
		}
	}
}

// Unsubscribe forgets a device of a user. It is no error if the device is unknown or belongs to another user.
func (o *Outbox) Unsubscribe(ctx context.Context, user protocol.UserID, endpoint string) error {
	release, err := o.change(ctx)
	if err != nil {
		return err
	}
	defer release()
	o.mu.Lock()
	d := o.byEndpoint[endpoint]
	theirs := d != nil && d.User.ID == user
	o.mu.Unlock()
	if !theirs {
		return nil
	}
	return o.forget(ctx, endpoint)
}

// forget removes a device from the store and the index. The caller has taken the lock of [Outbox.change].
func (o *Outbox) forget(ctx context.Context, endpoint string) error {
	err := o.cfg.Devices.Forget(ctx, endpoint)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropLocked(o.byEndpoint[endpoint])
	if err != nil {
		return fmt.Errorf("forget a device to push to: %w", err)
	}
	return nil
}

// change takes the lock for changes of devices, or gives up when ctx ends.
func (o *Outbox) change(ctx context.Context) (release func(), err error) {
	select {
	case o.changing <- struct{}{}:
		return func() { <-o.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// surplus returns the devices of a user that must be forgotten if the one with that endpoint is added. full reports
// that the server has no room for it.
func (o *Outbox) surplus(user protocol.UserID, endpoint string) (endpoints []string, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, known := o.owners[user], o.byEndpoint[endpoint]
	if p == nil {
		return nil, known == nil && len(o.byEndpoint) >= maxDevices
	}
	if known != nil && known.User.ID == user {
		return nil, false
	}
	for _, d := range p.devices[:max(len(p.devices)+1-maxUserDevices, 0)] {
		endpoints = append(endpoints, d.Endpoint)
	}
	return endpoints, known == nil && len(endpoints) == 0 && len(o.byEndpoint) >= maxDevices
}

// indexLocked adds a device to the index, in the place of the one with the same endpoint.
func (o *Outbox) indexLocked(d Device) {
	known := o.byEndpoint[d.Endpoint]
	if known == nil || known.User.ID != d.User.ID {
		o.dropLocked(known) // the waiting messages are for its previous user
		known = &device{endpoint: d.Endpoint, id: idOf(d.Endpoint), wake: make(chan struct{}, 1)}
	}
	known.Device = d
	o.byEndpoint[d.Endpoint] = known
	p := o.owners[d.User.ID]
	if p == nil {
		p = new(owner)
		o.owners[d.User.ID] = p
	}
	p.user, p.doNotDisturb = d.User, d.DoNotDisturb
	p.devices = append(slices.DeleteFunc(p.devices, func(other *device) bool { return other == known }), known)
}

// idOf returns the id by which a page names its device. It does not reveal the endpoint.
func idOf(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// dropLocked removes a device from the index and drops its messages. d may be nil.
func (o *Outbox) dropLocked(d *device) {
	if d == nil {
		return
	}
	d.gone = true
	o.queued -= len(d.queue)
	d.queue = nil
	d.rouse()
	delete(o.byEndpoint, d.endpoint)
	p := o.owners[d.User.ID]
	p.devices = slices.DeleteFunc(p.devices, func(other *device) bool { return other == d })
	if len(p.devices) == 0 {
		delete(o.owners, d.User.ID)
	}
}

// rouse wakes the device's goroutine, if it waits.
func (d *device) rouse() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func badMessage(sentence string) error { return protocol.Errorf(protocol.CodeBadMessage, sentence) }

// checkEndpoint refuses an endpoint that no push service would issue. Where it leads to is for [Outbox.serviceOf].
func checkEndpoint(endpoint string) error {
	printable := func(r rune) bool { return r > ' ' && r < 0x7f }
	if endpoint == "" || len(endpoint) > maxEndpoint || strings.ContainsFunc(endpoint, func(r rune) bool { return !printable(r) }) {
		return badMessage("endpoint is no URL of at most 2 KiB")
	}
	return nil
}

// subscriptionKeys decodes the keys of a browser (RFC 8291 §3.2). They are in base64url, which some browsers pad.
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
		return nil, nil, badMessage("keys.p256dh is no uncompressed point on P-256 in base64url")
	}
	if len(auth) != authBytes {
		return nil, nil, badMessage("keys.auth is not 16 bytes in base64url")
	}
	return key, auth, nil
}
