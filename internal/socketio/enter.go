package socketio

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

// enter finds out whose a connection is, and attaches it to the hub. The data is what the page gave as auth.
func (s *Server) enter(c *connection, data string) *protocol.Error {
	var auth struct {
		Token    string `json:"token"`
		Username label  `json:"username"`
		// PID is the secret that the last connection of this very page got. socket.io-client
		// sends it since 4.6.
		PID string `json:"pid"`
	}
	if data != "" && json.Unmarshal([]byte(data), &auth) != nil {
		return protocol.Errorf(protocol.CodeBadMessage, "auth is an object; its token is a string, its username a string or a number")
	}
	name := cmp.Or(string(auth.Username), c.name)
	who, known, refused := s.identify(name, auth.Token, auth.PID)
	if refused != nil {
		return refused
	}
	defer s.cfg.Guests.Entered(who)
	if known == nil {
		known = newSession(s, who.User.ID, name)
	}
	return known.attach(c, who)
}

// identify finds out who a page is, and which session it takes up: the one whose secret it
// has, if any. A name alone takes no session up.
func (s *Server) identify(name, token, pid string) (who account.Visitor, known *session, refused *protocol.Error) {
	s.mu.Lock()
	claimed := s.sessions[pid]
	s.mu.Unlock()
	enter := func(c account.Credentials) (account.Visitor, *protocol.Error) {
		return s.cfg.Guests.Enter(context.Background(), c, time.Now())
	}
	switch {
	case token != "":
		who, refused = enter(account.Credentials{Name: name, Token: token})
		if refused == nil && claimed != nil && claimed.user == who.User.ID {
			known = claimed
		}
		return who, known, refused
	case name == "":
		return who, nil, protocol.Errorf(protocol.CodeUnauthorized, "say who you are, with query {username} or auth {token}")
	case claimed != nil && claimed.name == name:
		if who, refused = enter(account.Credentials{Again: claimed.user}); refused == nil {
			return who, claimed, nil
		}
	}
	who, refused = enter(account.Credentials{Name: name, Unproven: true})
	return who, nil, refused
}

// find returns whom a page means: an id, or the name of a user who is here. If the target is
// neither, it is rung like an id, so that the answer and its delay are the same.
func (s *Server) find(target string) protocol.UserID {
	if _, _, here := s.cfg.Hub.Here(protocol.UserID(target)); here {
		return protocol.UserID(target)
	}
	if id, here := s.cfg.Guests.Named(target); here {
		return id
	}
	if len(target) > protocol.MaxID {
		return protocol.NewUserID()
	}
	return protocol.UserID(target)
}

// keep makes a connected session known by its secret now, and no more by the one before. A
// session without a secret is forgotten.
func (s *Server) keep(kept *session, before, now string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, before)
	if now != "" && !s.closed {
		s.sessions[now] = kept
	}
	kept.expiry.Stop()
}

// expireLater forgets a session without a connection when the hub has forgotten it.
func (s *Server) expireLater(lost *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		lost.expiry.Reset(protocol.Duration(cmp.Or(lost.page.timings.ResumeMs, protocol.DefaultTimings().ResumeMs)))
	}
}
