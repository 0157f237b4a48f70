package edge

import (
	"context"
	"net/http"

	"github.com/visavis/visavis/protocol"
)

// PushDevices stores the devices that receive Web Push. If a method returns a
// [*protocol.Error], the client sees it.
type PushDevices interface {
	// Key is what a browser subscribes with (applicationServerKey).
	Key() string
	Subscribe(ctx context.Context, user protocol.User, s *protocol.Subscription) error
	Unsubscribe(ctx context.Context, user protocol.UserID, endpoint string) error
	// SignOut forgets the devices of a user who has signed out everywhere.
	SignOut(user protocol.UserID)
}

// Bounds of the request bodies of these routes, in bytes. An endpoint has 2 KiB at most.
const (
	maxSubscription = 8 << 10
	maxPushed       = 4 << 10
)

func (s *Server) routePush(mux *http.ServeMux) {
	push := methods{http.MethodGet: s.pushKey, http.MethodPut: s.subscribe, http.MethodDelete: s.unsubscribe}
	pushed := methods{http.MethodPost: s.pushed}
	if s.cfg.PushDevices == nil {
		for _, route := range []methods{push, pushed} {
			for method := range route {
				route[method] = pushIsOff
			}
		}
	}
	mux.Handle("/v1/push", s.crossOrigin(push))
	mux.Handle("/v1/pushed", s.crossOrigin(pushed))
}

func pushIsOff(w http.ResponseWriter, _ *http.Request) {
	writeError(w, http.StatusNotFound, protocol.Errorf(protocol.CodeNotFound, "push is off here"))
}

func (s *Server) pushKey(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"key": s.cfg.PushDevices.Key()})
}

// subscribe stores a device of the user.
func (s *Server) subscribe(w http.ResponseWriter, r *http.Request) {
	user, ok := s.bearer(w, r)
	if !ok {
		return
	}
	var subscription protocol.Subscription
	if !readJSON(w, r, maxSubscription, &subscription) {
		return
	}
	if !s.allow("devices", s.limits.devices, s.clientAddr(r)) {
		tooOften(w)
		return
	}
	if err := s.cfg.PushDevices.Subscribe(r.Context(), user, &subscription); err != nil {
		s.fail(w, "subscribe a device", err)
		return
	}
	if s.cfg.Guests.SignedOut(user.ID) { // meanwhile
		if err := s.cfg.PushDevices.Unsubscribe(r.Context(), user.ID, subscription.Endpoint); err != nil {
			s.fail(w, "unsubscribe a device", err)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// unsubscribe forgets a device of the user.
func (s *Server) unsubscribe(w http.ResponseWriter, r *http.Request) {
	user, ok := s.bearer(w, r)
	if !ok {
		return
	}
	var device struct {
		Endpoint string `json:"endpoint"`
	}
	if !readJSON(w, r, maxSubscription, &device) {
		return
	}
	if err := s.cfg.PushDevices.Unsubscribe(r.Context(), user.ID, device.Endpoint); err != nil {
		s.fail(w, "unsubscribe a device", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// pushed handles what a device does after a push for a call. The key in the body
// authenticates it, because a service worker has no token.
func (s *Server) pushed(w http.ResponseWriter, r *http.Request) {
	var device struct {
		Call protocol.CallID `json:"call"`
		Key  string          `json:"key"`
		Act  string          `json:"act"`
	}
	if !readJSON(w, r, maxPushed, &device) {
		return
	}
	stands, refused := s.cfg.Pushed(device.Call, device.Key, device.Act)
	if refused != nil {
		s.fail(w, "take the word of a pushed device", refused)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		State  protocol.PushState `json:"state"`
		RingMs int64              `json:"ringMs,omitempty"`
	}{stands.State, stands.RingMs})
}
