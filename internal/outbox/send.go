package outbox

import (
	"bytes"
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
	// A device that could not be pushed to is tried again after firstWait, then twice
	// that, up to lastWait. A ring begins anew.
	firstWait = 500 * time.Millisecond
	lastWait  = 10 * time.Minute
	// inPush is where a panic is counted.
	inPush = "a push"
)

// addLocked has a message sent that is not to replace another, or has done so.
func (o *Outbox) addLocked(d *device, m *protocol.Push, until time.Time) {
	if !slices.ContainsFunc(d.queue, func(l letter) bool { return l.m == m }) {
		d.queue = append(d.queue, letter{m, until})
		o.letters++
	}
	if m.State == protocol.PushRinging { // it has no time for what was before
		d.tries, d.notBefore = 0, d.heldUntil
		d.rouse()
	}
	if !d.busy {
		d.busy = true
		o.busy++
		go o.serve(d)
	}
}

// serve sends what waits for a device, one after the other, until nothing does.
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

// due is how long to wait before the next message can be sent. Where there is none
// it is not ok: the goroutine ends, and has said so.
func (o *Outbox) due(d *device) (wait time.Duration, ok bool) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	at := now
	if d.notBefore.After(now) {
		at = d.notBefore
	}
	o.trimLocked(d, droppedExpired, func(l letter) bool { return !l.until.After(at) })
	if o.closed && at.After(now) || o.sending.Err() != nil {
		o.trimLocked(d, droppedStopped, func(letter) bool { return true })
	}
	if len(d.queue) == 0 {
		d.busy = false
		o.busy--
		o.idle.Broadcast()
		return 0, false
	}
	return at.Sub(now), true
}

func (o *Outbox) trimLocked(d *device, cause string, worthless func(letter) bool) {
	before := len(d.queue)
	d.queue = slices.DeleteFunc(d.queue, worthless)
	o.letters -= before - len(d.queue)
	o.metrics.dropped.WithLabelValues(cause).Add(float64(before - len(d.queue)))
}

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
		o.letters -= len(d.queue)
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
	l, subscription, ok := o.takeFirst(d)
	if !ok {
		return
	}
	request, err := o.seal(&subscription, l)
	if err != nil {
		o.metrics.refused.WithLabelValues(refusedOther).Inc()
		o.cfg.Log.Error("make a push", "err", err)
		return
	}
	status, again, err := o.post(request)
	release()
	switch {
	case err != nil, status == http.StatusTooManyRequests, status >= 500:
		o.failed(d, l, status, again, err)
	case status >= 200 && status < 300:
		o.metrics.sent.Inc()
		o.mu.Lock()
		d.tries, d.heldUntil = 0, time.Time{}
		o.mu.Unlock()
		if l.m.State == protocol.PushRinging {
			o.cfg.Taken(l.m.Call)
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

// takeFirst takes a message out of a device's queue only when its turn at the push
// service has come, so that a later one of the same call takes its place until then.
func (o *Outbox) takeFirst(d *device) (letter, Device, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(d.queue) == 0 || !d.queue[0].until.After(time.Now()) {
		return letter{}, Device{}, false
	}
	first := d.queue[0]
	d.queue = slices.Delete(d.queue, 0, 1)
	o.letters--
	return first, d.Device, true
}

// failed keeps a message for another time, unless a later one of its call has come.
func (o *Outbox) failed(d *device, l letter, status int, again time.Duration, err error) {
	if o.sending.Err() != nil { // the end of Run, no fault of the push service
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
	later := slices.ContainsFunc(d.queue, func(other letter) bool { return other.m.Call == l.m.Call })
	if !later && !d.gone {
		d.queue = slices.Insert(d.queue, 0, l)
		o.letters++
	}
}

// forgetGone forgets a device that its push service does not know any more.
func (o *Outbox) forgetGone(d *device) {
	release, err := o.change(o.sending)
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
	if err := o.forget(o.sending, d.endpoint); err != nil {
		o.cfg.Log.Warn("forget a device", "err", err)
	}
}

// seal makes a message ready for its push service (RFC 8030 §5).
func (o *Outbox) seal(d *Device, l letter) (*http.Request, error) {
	now := time.Now()
	m, left, urgency := *l.m, l.until.Sub(now), "high"
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

// post brings a message to its push service, and tells what that answered and when
// to come again, if it said so.
func (o *Outbox) post(request *http.Request) (status int, again time.Duration, err error) {
	response, err := o.client.Do(request)
	if err != nil {
		return 0, 0, withoutURL(err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection serves again
	return response.StatusCode, retryAfter(response.Header.Get("Retry-After"), time.Now()), nil
}

// topic is the same for all messages of a call, so that the last one replaces those
// before: 32 characters of base64url at most (RFC 8030 §5.4).
func topic(id protocol.CallID) string {
	hash := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(hash[:24])
}

// retryAfter is a Retry-After header, seconds or a date (RFC 9110 §10.2.3); 0 where
// it is none.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(missedFor.Seconds()))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// withoutURL is an error of the client without the endpoint, which is a secret.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok { //nolint:errorlint // Do returns it as it is
		return e.Err
	}
	return err
}
