package edge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// listed converts any error to one that a client may see. An error that is not a
// [*protocol.Error] becomes CodeInternal without details.
func listed(err error) *protocol.Error {
	if l := (*protocol.Error)(nil); errors.As(err, &l) {
		return l
	}
	return protocol.Errorf(protocol.CodeInternal, "the server failed; its operator's log says why")
}

// fail answers a request with err. It logs the error if it is internal; doing says what failed.
func (s *Server) fail(w http.ResponseWriter, doing string, err error) {
	answer := listed(err)
	switch {
	case errors.Is(err, context.Canceled): // the client is gone: it waits for no answer, and nothing is wrong
		s.cfg.Log.Debug("a client did not wait for its answer", "doing", doing)
	case answer.Code == protocol.CodeInternal:
		s.cfg.Log.Error("a request failed", "doing", doing, "err", err)
	}
	writeError(w, statusOf(answer.Code), answer)
}

// statusOf is the HTTP status that goes with a code.
func statusOf(code protocol.Code) int {
	switch code {
	case protocol.CodeBadMessage:
		return http.StatusBadRequest
	case protocol.CodeUnauthorized, protocol.CodeSignedOut:
		return http.StatusUnauthorized
	case protocol.CodeNoCallYet:
		return http.StatusForbidden
	case protocol.CodeRateLimited:
		return http.StatusTooManyRequests
	case protocol.CodeFull, protocol.CodeRestarting, protocol.CodeUnavailable:
		return http.StatusServiceUnavailable
	case protocol.CodeInternal:
		return http.StatusInternalServerError
	}
	return http.StatusNotFound
}

func writeError(w http.ResponseWriter, status int, e *protocol.Error) {
	writeJSON(w, status, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// bearer returns the user of a request's token. If it returns false, it has answered the request.
func (s *Server) bearer(w http.ResponseWriter, r *http.Request) (protocol.User, bool) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	user, refused := s.cfg.Guests.Who(r.Context(), token, time.Now())
	if refused != nil {
		writeError(w, statusOf(refused.Code), refused)
		return protocol.User{}, false
	}
	if !s.allowUser("records", s.limits.records, user.ID) {
		tooOften(w)
		return protocol.User{}, false
	}
	return user, true
}

// readJSON decodes a body of at most bound bytes. If it returns false, it has answered the request.
func readJSON(w http.ResponseWriter, r *http.Request, bound int64, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bound)).Decode(into); err != nil {
		writeError(w, http.StatusBadRequest, protocol.Errorf(protocol.CodeBadMessage, "the body is no object as this request takes it, or too long"))
		return false
	}
	return true
}

// place handles GET /v1/place: the name of this server and who may enter.
func (s *Server) place(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Name   string `json:"name"`
		Access string `json:"access"`
	}{s.cfg.Place, s.cfg.Access})
}

// pastCall is a record as one of its parties sees it.
type pastCall struct {
	ID         protocol.CallID    `json:"id"`
	Peer       protocol.User      `json:"peer"`
	Direction  string             `json:"direction"`
	Video      bool               `json:"video"`
	RungAt     time.Time          `json:"rungAt"`
	AcceptedAt *time.Time         `json:"acceptedAt,omitempty"`
	EndedAt    time.Time          `json:"endedAt"`
	Reason     protocol.EndReason `json:"reason"`
	Detail     protocol.Detail    `json:"detail,omitempty"`
	DurationMs int64              `json:"durationMs"`
	Missed     bool               `json:"missed"`
}

// seenBy converts a record to the view of one party. A blocked caller sees "unreachable".
func seenBy(user protocol.UserID, r call.Record) pastCall {
	p := pastCall{
		ID: r.Call, Peer: r.Caller, Direction: "in", Video: r.Video,
		RungAt: r.RungAt.UTC(), EndedAt: r.EndedAt.UTC(), Reason: r.Reason, Detail: r.Detail,
		DurationMs: r.Duration().Milliseconds(), Missed: r.Reason.Missed(),
	}
	if r.Caller.ID == user {
		p.Peer, p.Direction, p.Missed = r.Callee, "out", false
		if p.Reason == protocol.ReasonBlocked {
			p.Reason = protocol.ReasonUnreachable
		}
	}
	if !r.AcceptedAt.IsZero() {
		at := r.AcceptedAt.UTC()
		p.AcceptedAt = &at
	}
	return p
}

const (
	defaultCalls = 50
	maxCalls     = 200
)

// calls handles GET /v1/calls: the user's ended calls, newest first.
func (s *Server) calls(w http.ResponseWriter, r *http.Request) {
	user, ok := s.bearer(w, r)
	if !ok {
		return
	}
	limit := defaultCalls
	if l := r.URL.Query().Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > maxCalls {
			writeError(w, http.StatusBadRequest, protocol.Errorf(protocol.CodeBadMessage, "limit is a number from 1 to 200"))
			return
		}
		limit = n
	}
	before := protocol.CallID(r.URL.Query().Get("before"))
	if len(before) > protocol.MaxID {
		writeError(w, http.StatusBadRequest, protocol.Errorf(protocol.CodeBadMessage, "before is the id of a call"))
		return
	}
	records, err := s.cfg.Recent(r.Context(), user.ID, before, limit)
	if err != nil {
		s.fail(w, "read recent calls", err)
		return
	}
	calls := make([]pastCall, 0, len(records))
	for _, r := range records {
		calls = append(calls, seenBy(user.ID, r))
	}
	writeJSON(w, http.StatusOK, struct {
		Calls      []pastCall `json:"calls"`
		Incomplete bool       `json:"incomplete,omitempty"`
		Now        time.Time  `json:"now"`
	}{calls, !s.cfg.Complete(user.ID), time.Now().UTC()})
}

// signOut revokes every token of the user, ends the user's sessions and forgets the user's devices.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	user, ok := s.bearer(w, r)
	if !ok {
		return
	}
	if refused := s.cfg.Guests.SignOut(context.WithoutCancel(r.Context()), user.ID, time.Now()); refused != nil {
		s.fail(w, "sign out everywhere", refused)
		return
	}
	s.cfg.Hub.SignOut(user.ID)
	if s.cfg.PushDevices != nil {
		s.cfg.PushDevices.SignOut(user.ID)
	}
	w.WriteHeader(http.StatusNoContent)
}

// hangup handles the beacon of a page that closes during a call. The resume token in the
// body authenticates it. Browsers send a beacon as text/plain, which needs no preflight.
func (s *Server) hangup(w http.ResponseWriter, r *http.Request) {
	var beacon struct {
		Resume string          `json:"resume"`
		Call   protocol.CallID `json:"call"`
	}
	body := http.MaxBytesReader(w, r.Body, 4<<10)
	if err := json.NewDecoder(body).Decode(&beacon); err != nil || beacon.Call == "" {
		writeError(w, http.StatusBadRequest, protocol.Errorf(protocol.CodeBadMessage, "the body is no object with resume and call"))
		return
	}
	s.cfg.Hub.Beacon(beacon.Resume, &protocol.Hangup{Call: beacon.Call})
	w.WriteHeader(http.StatusNoContent)
}

// leave handles the beacon of a page that closes for good. It ends the session. The resume token authenticates it.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	var beacon struct {
		Resume string `json:"resume"`
	}
	body := http.MaxBytesReader(w, r.Body, 4<<10)
	if err := json.NewDecoder(body).Decode(&beacon); err != nil || beacon.Resume == "" {
		writeError(w, http.StatusBadRequest, protocol.Errorf(protocol.CodeBadMessage, "the body is no object with resume"))
		return
	}
	s.cfg.Hub.Leave(beacon.Resume)
	w.WriteHeader(http.StatusNoContent)
}
