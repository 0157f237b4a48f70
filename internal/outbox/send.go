package outbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/visavis/visavis/internal/panics"
	"github.com/visavis/visavis/protocol"
)

const (
	// A failed message is tried again after firstWait, then after twice that, up to lastWait. A ring begins anew with
	// firstWait.
	firstWait = 500 * time.Millisecond
	lastWait  = 10 * time.Minute
	// inPush is the name by which package panics counts a panic here.
	inPush = "a push"
)

// addLocked queues a message, unless [device.replace] has queued it already, and starts the goroutine of the device if
// it has none.
func (o *Outbox) addLocked(d *device, m *protocol.Push, until time.Time) {
	if !slices.ContainsFunc(d.queue, func(q queuedPush) bool { return q.m == m }) {
		d.queue = append(d.queue, queuedPush{m, until})
		o.queued++
	}
	if m.State == protocol.PushRinging { // a ring does not wait because earlier messages have failed
		d.tries, d.notBefore = 0, d.heldUntil
		d.rouse()
	}
	if !d.busy {
		d.busy = true
		o.senders.Go(func() { o.serve(d) })
	}
}

// serve sends the messages that wait for a device, one after the other, until none waits. It is the goroutine of the
// device.
func (o *Outbox) serve(d *device) {
	for {
		wait, ok := o.due(d)
		switch {
		case !ok:
			return
		case wait > 0:
			d.await(wait, o.stopping)
		case !panics.Contain(o.cfg.Log, inPush, func() { o.sendNext(d) }):
			o.metrics.dropped.WithLabelValues(droppedPanic).Inc()
			d.await(firstWait, o.stopping) // a message that is still in the queue may panic again
		}
	}
}

// due returns how long to wait before the next message can be sent. It drops messages that expire by then. If none is
// left, ok is false, and the device has no goroutine any more: serve must return.
func (o *Outbox) due(d *device) (wait time.Duration, ok bool) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	at := now
	if d.notBefore.After(now) {
		at = d.notBefore
	}
	o.trimLocked(d, droppedExpired, func(q queuedPush) bool { return !q.until.After(at) })
	if o.closed && at.After(now) || o.sending.Err() != nil {
		o.trimLocked(d, droppedStopped, func(queuedPush) bool { return true })
	}
	if len(d.queue) == 0 {
		d.busy = false
		return 0, false
	}
	return at.Sub(now), true
}

// trimLocked drops the waiting messages for which drop is true, and counts them.
func (o *Outbox) trimLocked(d *device, cause string, drop func(queuedPush) bool) {
	before := len(d.queue)
	d.queue = slices.DeleteFunc(d.queue, drop)
	o.queued -= before - len(d.queue)
	o.metrics.dropped.WithLabelValues(cause).Add(float64(before - len(d.queue)))
}

// await waits, but no longer than until the device is roused or the outbox stops.
func (d *device) await(wait time.Duration, stopping <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-d.wake:
	case <-stopping:
	}
}

// sendNext sends the first message of a device.
func (o *Outbox) sendNext(d *device) {
	to := o.serviceOf(d.endpoint)
	if to == nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.metrics.refused.WithLabelValues(refusedService).Add(float64(len(d.queue)))
		o.queued -= len(d.queue)
		d.queue = nil
		return
	}
	select {
	case to.slots <- struct{}{}:
	case <-o.sending.Done():
		return
	}
	release := sync.OnceFunc(func() { <-to.slots })
	defer release()
	q, subscription, ok := o.takeFirst(d)
	if !ok {
		return
	}
	request, err := o.seal(&subscription, q)
	if err != nil {
		o.metrics.refused.WithLabelValues(refusedOther).Inc()
		o.cfg.Log.Error("make a push", "err", err)
		return
	}
	status, again, err := o.post(request)
	release()
	switch {
	case err != nil, status == http.StatusTooManyRequests, status >= 500:
		o.failed(d, q, status, again, err)
	case status >= 200 && status < 300:
		o.metrics.sent.Inc()
		o.mu.Lock()
		d.tries, d.heldUntil = 0, time.Time{}
		o.mu.Unlock()
		if q.m.State == protocol.PushRinging {
			o.cfg.Taken(q.m.Call)
		}
	case status == http.StatusNotFound, status == http.StatusGone, status == http.StatusForbidden:
		o.metrics.refused.WithLabelValues(refusedGone).Inc()
		o.cfg.Log.Info("a device cannot be pushed any more", "user", subscription.User.ID, "service", request.URL.Host, "status", status)
		o.forgetGone(d)
	default:
		o.metrics.refused.WithLabelValues(refusedOther).Inc()
		o.cfg.Log.Warn("a push service takes no push", "service", request.URL.Host, "status", status)
	}
}

// takeFirst takes the first message out of the queue of a device. It is called only when the request can be sent at
// once. Until then, a later message of the same call replaces it.
func (o *Outbox) takeFirst(d *device) (queuedPush, Device, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(d.queue) == 0 || !d.queue[0].until.After(time.Now()) {
		return queuedPush{}, Device{}, false
	}
	first := d.queue[0]
	d.queue = slices.Delete(d.queue, 0, 1)
	o.queued--
	return first, d.Device, true
}

// failed queues a message again, unless a later message of its call waits. again is how long the push service wants us
// to wait, or 0.
func (o *Outbox) failed(d *device, q queuedPush, status int, again time.Duration, err error) {
	if o.sending.Err() != nil { // Run ends; the push service has not failed
		o.metrics.dropped.WithLabelValues(droppedStopped).Inc()
		return
	}
	o.metrics.retried.Inc()
	o.cfg.Log.Debug("a push failed", "status", status, "err", err)
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	wait := min(firstWait<<min(d.tries, 16), lastWait)
	d.tries++
	d.notBefore = now.Add(wait/2 + rand.N(wait/2))
	if again > 0 {
		d.heldUntil = now.Add(again)
	}
	if d.heldUntil.After(d.notBefore) {
		d.notBefore = d.heldUntil
	}
	later := slices.ContainsFunc(d.queue, func(other queuedPush) bool { return other.m.Call == q.m.Call })
	if !later && !d.gone {
		d.queue = slices.Insert(d.queue, 0, q)
		o.queued++
	}
}

// forgetGone forgets a device that its push service does not know any more.
func (o *Outbox) forgetGone(d *device) {
	ctx, cancel := context.WithTimeout(o.sending, changeTimeout)
	defer cancel()
	release, err := o.change(ctx)
	if err != nil {
		return
	}
	defer release()
	o.mu.Lock()
	gone := d.gone
	o.mu.Unlock()
	if gone {
		return
	}
	if err := o.forget(ctx, d.endpoint); err != nil {
		o.cfg.Log.Warn("forget a device", "err", err)
	}
}

// seal makes the request that brings a message to its push service (RFC 8030 §5).
func (o *Outbox) seal(d *Device, q queuedPush) (*http.Request, error) {
	now := time.Now()
	m, left, urgency := *q.m, q.until.Sub(now), "high"
	switch m.State {
	case protocol.PushRinging:
		m.RingMs = left.Milliseconds()
	case protocol.PushMissed:
		urgency = "normal"
	}
	body, err := seal(d, protocol.Encode(&m))
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(o.sending, http.MethodPost, d.Endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	authorization, err := o.authorization(request.URL, now)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", authorization)
	request.Header.Set("Content-Encoding", "aes128gcm")
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("TTL", strconv.Itoa(max(int(left.Seconds()), 1)))
	request.Header.Set("Topic", topic(m.Call))
	request.Header.Set("Urgency", urgency)
	return request, nil
}

// post sends a request. It returns the status of the answer, and how long the push service wants us to wait before the
// next request, or 0.
func (o *Outbox) post(request *http.Request) (status int, again time.Duration, err error) {
	response, err := o.client.Do(request)
	if err != nil {
		return 0, 0, withoutURL(err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection can be used again
	return response.StatusCode, retryAfter(response.Header.Get("Retry-After"), time.Now()), nil
}

// topic returns the Topic header of all messages of a call, so that a push service replaces a message that it still has
// by a later one. A topic has at most 32 characters of base64url (RFC 8030 §5.4).
func topic(id protocol.CallID) string {
	hash := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(hash[:24])
}

// retryAfter parses a Retry-After header: seconds or a date (RFC 9110 §10.2.3). It returns 0 for anything else.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(missedFor.Seconds()))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// withoutURL removes the endpoint, which is a secret, from an error of the HTTP client.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // Do returns it as it is
		return e.Err
	}
	return err
}
