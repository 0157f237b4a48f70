package outbox

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

// Only somebody who was in a call is rung while no page is open. Devices that are there stay.
func TestSubscribingTakesACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t)
		has, fails := false, error(nil)
		s.cfg.HasCalled = func(context.Context, protocol.UserID) (bool, error) { return has, fails }
		s.transport.browsers[phone], s.transport.browsers[laptop] = newBrowser(t), newBrowser(t)
		subscribe := func(user protocol.UserID, endpoint string) protocol.Code {
			err := s.Subscribe(t.Context(), protocol.User{ID: user}, s.transport.browsers[endpoint].subscription(endpoint))
			if refused := (*protocol.Error)(nil); errors.As(err, &refused) {
				return refused.Code
			}
			return ""
		}
		if got := subscribe("bob", phone); got != protocol.CodeNoCallYet {
			t.Errorf("before a call: %q", got)
		}
		fails = errors.New("the database is down")
		if got := subscribe("bob", phone); got != protocol.CodeUnavailable {
			t.Errorf("when that cannot be told: %q", got)
		}
		has, fails = true, nil
		if got := subscribe("bob", phone); got != "" {
			t.Errorf("after a call: %q", got)
		}
		has, fails = false, errors.New("the database is down")
		if got := subscribe("bob", phone); got != "" {
			t.Errorf("renewed: %q", got)
		}
		if got := subscribe("bob", laptop); got != "" {
			t.Errorf("another device of somebody who has one: %q", got)
		}
		if got := subscribe("guest", phone); got != "" {
			t.Errorf("a browser whose person is another guest now: %q", got)
		}
		s.SignOut("bob")
		if _, _, ok := s.Reachable("bob"); ok {
			t.Error("Bob can be rung after signing out")
		}
		if _, _, ok := s.Reachable("guest"); !ok {
			t.Error("the other one cannot")
		}
		s.SignOut("unobody")
	})
}

// TestASignOutDoesNotWaitForever: the store hangs while another device is being forgotten.
func TestASignOutDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone, laptop)
		s.kept.hangs = true
		s.transport.answer = func(_ int, d delivery) (int, http.Header, time.Duration, error) {
			return map[string]int{phone: 201, laptop: 410}[d.url], nil, 0, nil
		}
		s.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		began := time.Now()
		s.SignOut("bob")
		if took := time.Since(began); took > changeTimeout {
			t.Errorf("signing out took %v", took)
		}
		if _, _, ok := s.Reachable("bob"); ok {
			t.Error("Bob can be rung after signing out")
		}
	})
}

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t)
		if _, _, ok := s.Reachable("bob"); ok {
			t.Error("bob is reachable without a device")
		}
		var all []string
		for i := range maxUserDevices {
			all = append(all, fmt.Sprint(phone, i))
			s.subscribe(t, "bob", all[i])
			advance(time.Second)
		}
		s.subscribe(t, "bob", all[0]) // renewed: the second is the oldest now
		s.subscribe(t, "bob", laptop)
		want := append(append([]string{}, all[2:]...), all[0], laptop)
		if diff := cmp.Diff(want, s.kept.endpoints()); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
		if user, dnd, ok := s.Reachable("bob"); !ok || dnd || user.Name != "B" {
			t.Errorf("reachable: %+v %v %v", user, dnd, ok)
		}

		quiet := s.transport.browsers[laptop].subscription(laptop)
		quiet.DoNotDisturb = true
		if err := s.Subscribe(t.Context(), protocol.User{ID: "bob", Name: "Bobby", Presence: protocol.Online}, quiet); err != nil {
			t.Fatal(err)
		}
		if user, dnd, _ := s.Reachable("bob"); !dnd || user != (protocol.User{ID: "bob", Name: "Bobby"}) {
			t.Errorf("reachable: %+v %v", user, dnd)
		}

		s.subscribe(t, "cy", laptop) // the browser is someone else's now
		s.Push("bob", pushed("c1", protocol.PushRinging))
		s.Push("cy", pushed("c2", protocol.PushRinging))
		synctest.Wait()
		for _, d := range s.transport.deliveries {
			if (d.url == laptop) != (d.message.Call == "c2") {
				t.Errorf("%s was told of %s", d.url, d.message.Call)
			}
		}
		if err := s.Unsubscribe(t.Context(), "bob", laptop); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := s.Reachable("cy"); !ok {
			t.Error("bob has unsubscribed cy's device")
		}
		for range 2 {
			if err := s.Unsubscribe(t.Context(), "cy", laptop); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, ok := s.Reachable("cy"); ok || slices.Contains(s.kept.endpoints(), laptop) {
			t.Error("cy is still reachable")
		}

		s.kept.fails = true
		if err := s.Subscribe(t.Context(), protocol.User{ID: "cy"}, quiet); err == nil {
			t.Error("a device is subscribed that is not kept")
		}
		if _, _, ok := s.Reachable("cy"); ok {
			t.Error("cy is reachable until the next start only")
		}
	})
}

func TestADeviceThatIsNotRenewedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := newTestOutbox(t, phone)
		advance(forgetAfter - time.Hour)
		before.subscribe(t, "ann", laptop)
		advance(time.Hour)
		o, err := New(t.Context(), Config{Devices: before.kept, Secret: []byte("secret"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		_, _, bob := o.Reachable("bob")
		_, _, ann := o.Reachable("ann")
		if bob || !ann || !slices.Equal(before.kept.endpoints(), []string{laptop}) {
			t.Errorf("bob reachable: %v, ann: %v, kept %v", bob, ann, before.kept.endpoints())
		}
	})
}

// TestDevicesOutliveARestart also has one of a push service that is allowed no more.
func TestDevicesOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := newTestOutbox(t, phone, laptop)
		o, err := New(t.Context(), Config{
			Devices: before.kept, Secret: []byte("secret"), Transport: before.transport, Services: []string{"fcm.googleapis.com"},
			Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := o.Reachable("bob"); !ok {
			t.Error("bob was forgotten")
		}
		o.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		if len(before.transport.deliveries) != 1 || before.transport.deliveries[0].url != phone || o.queued != 0 {
			t.Errorf("told %v, %d messages are left", before.transport.delivered(), o.queued)
		}
	})
}

func TestWhatCannotBeSubscribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t)
		good := newBrowser(t).subscription(phone)
		change := func(f func(*protocol.Subscription)) *protocol.Subscription {
			changed := *good
			f(&changed)
			return &changed
		}
		to := func(endpoint string) *protocol.Subscription {
			return change(func(s *protocol.Subscription) { s.Endpoint = endpoint })
		}
		offCurve := raw(t, good.Keys.P256dh)
		offCurve[64] ^= 1
		for name, bad := range map[string]*protocol.Subscription{
			"nothing":             {},
			"a long endpoint":     to(phone + strings.Repeat("x", 2<<10)),
			"a line break":        to(phone + "\r\nx"),
			"another host":        to("https://169.254.169.254/latest"),
			"an address":          to("https://127.0.0.1/"),
			"plain http":          to("http://fcm.googleapis.com/x"),
			"another port":        to("https://fcm.googleapis.com:8443/x"),
			"a name in the URL":   to("https://fcm.googleapis.com@evil.example/x"),
			"a user in the URL":   to("https://me@fcm.googleapis.com/x"),
			"a name below":        to("https://fcm.googleapis.com.evil.example/x"),
			"a name beside":       to("https://evilpush.apple.com/x"),
			"the domain itself":   to("https://push.apple.com/x"),
			"no key":              change(func(s *protocol.Subscription) { s.Keys.P256dh = "" }),
			"a key off the curve": change(func(s *protocol.Subscription) { s.Keys.P256dh = base64.RawURLEncoding.EncodeToString(offCurve) }),
			"a compressed key": change(func(s *protocol.Subscription) {
				point := append([]byte{2 + offCurve[64]&1}, offCurve[1:33]...)
				s.Keys.P256dh = base64.RawURLEncoding.EncodeToString(point)
			}),
			"the point at infinity": change(func(s *protocol.Subscription) { s.Keys.P256dh = "AA" }),
			"a short secret":        change(func(s *protocol.Subscription) { s.Keys.Auth = "AAAA" }),
			"no base64":             change(func(s *protocol.Subscription) { s.Keys.Auth = "!" }),
		} {
			err := s.Subscribe(t.Context(), protocol.User{ID: "bob"}, bad)
			if listed := (*protocol.Error)(nil); !errors.As(err, &listed) || listed.Code != protocol.CodeBadMessage {
				t.Errorf("%s: got %v", name, err)
			}
		}
		for _, endpoint := range []string{
			phone, laptop, "https://jmt17.google.com/fcm/send/x", "https://web.push.apple.com/Q", "https://wns2-am3p.notify.windows.com/w/?token=B%2fQ", "HTTPS://FCM.googleapis.com:443/x",
		} {
			if err := s.Subscribe(t.Context(), protocol.User{ID: "bob"}, to(endpoint)); err != nil {
				t.Errorf("%s: %v", endpoint, err)
			}
		}
		padded := change(func(s *protocol.Subscription) { s.Keys.Auth += "=="; s.Keys.P256dh += "=" })
		if err := s.Subscribe(t.Context(), protocol.User{ID: "bob"}, padded); err != nil {
			t.Errorf("padded: %v", err)
		}
	})
}
