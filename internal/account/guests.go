// Package account authenticates users. In this version every user is a guest, who gives a
// name and gets a token. The token proves next time that they are the same user. The
// package keeps in memory the guests who are here and the tokens that were used lately. A
// [Logins] keeps the tokens of guests who have been in a call.
//
// A [Directory] says who may ring whom, and how.
//
// Start reading at [NewGuests] and [Guests.Enter].
package account

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/visavis/visavis/protocol"
)

// Config configures [Guests]. Logins, Sessions and Log are required.
type Config struct {
	// Logins keeps the tokens of guests who have been in a call.
	Logins Logins
	// Sessions knows which users have a session.
	Sessions Sessions
	// Secret is the key of the signed tokens of older versions. SignedUntil is when the last
	// of them was signed. Without a key no signed token is valid.
	Secret      []byte
	SignedUntil time.Time
	Log         *slog.Logger
}

// Sessions are the sessions of all users.
type Sessions interface {
	Presence
	// Dismiss ends the sessions of a user who has had no connection for a while and is in no
	// call. It reports whether the user has no session now.
	Dismiss(protocol.UserID) bool
}

// Guests are the users of a server with open access. Any goroutine may call the methods.
// Only the methods that take a context wait for the database, for [patience] at most.
type Guests struct {
	cfg Config

	mu     sync.Mutex        // guards all below; nothing but Sessions.Here is called while it is held
	byName map[string]*guest // by both keys of each name
	byID   map[protocol.UserID]*guest
	tokens tokens
	// failing says that the last read of a token failed.
	failing bool
}

// guest is a guest who is here, or is entering.
type guest struct {
	user     protocol.User
	keys     [2]string // of the name, in byName
	entering int       // calls of Enter that no Entered has followed yet
	tokens   []*token  // by which the guest has entered
}

// NewGuests returns an empty set of guests.
func NewGuests(cfg Config) (*Guests, error) {
	if cfg.Logins == nil || cfg.Sessions == nil || cfg.Log == nil {
		return nil, errors.New("account: logins, sessions and log are needed")
	}
	return &Guests{
		cfg:    cfg,
		byName: map[string]*guest{},
		byID:   map[protocol.UserID]*guest{},
		tokens: newTokens(),
	}, nil
}

// Credentials are what a client says about its user.
type Credentials struct {
	// Name is the user's name; empty for the name of the last visit.
	Name string
	// Token is the token of an earlier visit; empty for a new guest.
	Token string
	// Unproven says that the client keeps no token. Such a guest exists for one visit: nobody
	// else may have the name meanwhile, and a later guest of that name is another user.
	Unproven bool
	// Again is a guest who is here and opens another session. The caller has checked who they
	// are.
	Again protocol.UserID
}

// Visitor is a guest who has entered.
type Visitor struct {
	User protocol.User
	// Token is the token for the next visit; empty for a guest who keeps none.
	Token string

	entered *bool // guarded by Guests.mu
}

// Enter lets a guest in. A name belongs to the guest who is here. It is free once
// [Sessions.Dismiss] has ended their sessions. Each Enter that succeeds must be followed by
// one [Guests.Entered]. The error is for the client. It is [protocol.CodeUnavailable] if the
// database cannot tell whose token it is.
func (g *Guests) Enter(ctx context.Context, c Credentials, now time.Time) (Visitor, *protocol.Error) {
	v, holders, refused := g.enter(ctx, c, now)
	if len(holders) > 0 && !slices.ContainsFunc(holders, func(id protocol.UserID) bool { return !g.cfg.Sessions.Dismiss(id) }) {
		v, _, refused = g.enter(ctx, c, now)
	}
	return v, refused
}

// Entered must be called after each Enter that has succeeded, when the hub has opened a
// session for the visitor or refused one. It may be called again.
func (g *Guests) Entered(v Visitor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.byID[v.User.ID]; at != nil && !*v.entered {
		*v.entered = true
		at.entering--
		g.forgetLocked(at)
	}
}

// Departed tells Guests that a session of a user has ended. After the last one the guest's
// name is free.
func (g *Guests) Departed(id protocol.UserID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.byID[id]; at != nil {
		g.forgetLocked(at)
	}
}

// hereLocked reports whether a guest has a session or is entering. A guest who has signed out
// everywhere does not count as entering.
func (g *Guests) hereLocked(at *guest) bool {
	if at.entering > 0 && !g.tokens.left[at.user.ID].done {
		return true
	}
	_, _, here := g.cfg.Sessions.Here(at.user.ID)
	return here
}

// forgetLocked forgets a guest who is not here.
func (g *Guests) forgetLocked(at *guest) {
	if g.hereLocked(at) {
		return
	}
	delete(g.byID, at.user.ID)
	g.freeNameLocked(at)
	for _, t := range at.tokens {
		g.tokens.restLocked(t)
	}
}

// enter tries to let a guest in. If the name is taken, it returns the guests who have it.
func (g *Guests) enter(ctx context.Context, c Credentials, now time.Time) (v Visitor, holders []protocol.UserID, refused *protocol.Error) {
	var known *token
	switch {
	case c.Again != "":
		v, refused := g.enterAgain(c.Again)
		return v, nil, refused
	case c.Token != "":
		if known, refused = g.find(ctx, c.Token, now); refused != nil {
			return Visitor{}, nil, refused
		}
	}
	v, holders, refused = g.enterByName(c, known, now)
	switch {
	case refused != nil, known == nil:
	case known.signed:
		v.Token = g.exchange(ctx, v.User, c.Token, now)
	default:
		g.touch(known, v.User.Name, now)
		v.Token = c.Token
	}
	return v, holders, refused
}

// enterByName lets a guest in who has a token, and gives a new guest one.
func (g *Guests) enterByName(c Credentials, known *token, now time.Time) (Visitor, []protocol.UserID, *protocol.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	name, id := c.Name, protocol.UserID("")
	if known != nil {
		id = known.User.ID
		if refused := g.tokens.leftLocked(id); refused != nil {
			return Visitor{}, nil, refused
		}
		name = cmp.Or(name, known.User.Name)
	}
	name, keys, refused := checkedName(name)
	if refused != nil {
		return Visitor{}, nil, refused
	}
	at := g.byID[id]
	if holders := g.holdersLocked(keys, at); len(holders) > 0 {
		return Visitor{}, holders, protocol.Errorf(protocol.CodeNameTaken,
			"somebody here has the name "+name+", or one that looks like it; choose another name")
	}
	switch {
	case at != nil:
	case c.Unproven && known == nil:
		at = &guest{user: protocol.User{ID: protocol.NewUnprovenUserID()}}
	default:
		at = &guest{user: protocol.User{ID: cmp.Or(id, protocol.NewUserID())}}
	}
	g.addLocked(at, name, keys)
	if c.Unproven && known == nil {
		return Visitor{User: at.user, entered: new(bool)}, nil, nil
	}
	fresh := ""
	if known == nil {
		fresh = newSecret()
		known = &token{Login: newLogin(fresh, at.user, now)}
	}
	g.holdLocked(at, known)
	return Visitor{at.user, fresh, new(bool)}, nil, nil
}

// enterAgain lets a guest in who is here already.
func (g *Guests) enterAgain(id protocol.UserID) (Visitor, *protocol.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byID[id]
	if at == nil || !g.hereLocked(at) {
		return Visitor{}, protocol.Errorf(protocol.CodeUnauthorized, "that guest is not here any more; come in by name")
	}
	at.entering++
	return Visitor{User: at.user, entered: new(bool)}, nil
}

func checkedName(name string) (string, [2]string, *protocol.Error) {
	name, err := cleanName(name)
	if err != nil {
		return "", [2]string{}, protocol.Errorf(protocol.CodeBadName, err.Error())
	}
	return name, nameKeys(name), nil
}

// holdersLocked returns the guests who are here with a name, or one that looks like it. The
// guest but is left out.
func (g *Guests) holdersLocked(keys [2]string, but *guest) []protocol.UserID {
	var holders []protocol.UserID
	for _, key := range keys {
		has := g.byName[key]
		if has != nil && has != but && g.hereLocked(has) && !slices.Contains(holders, has.user.ID) {
			holders = append(holders, has.user.ID)
		}
	}
	return holders
}

// addLocked adds a guest by a name that is free.
func (g *Guests) addLocked(at *guest, name string, keys [2]string) {
	g.freeNameLocked(at)
	at.user.Name, at.keys = name, keys
	for _, key := range keys {
		g.byName[key] = at
	}
	at.entering++
	g.byID[at.user.ID] = at
}

// freeNameLocked lets others have the guest's name.
func (g *Guests) freeNameLocked(at *guest) {
	for _, key := range at.keys {
		if g.byName[key] == at {
			delete(g.byName, key)
		}
	}
}

// Who returns the user of a token. The error is for the client, like that of Enter.
func (g *Guests) Who(ctx context.Context, secret string, now time.Time) (protocol.User, *protocol.Error) {
	t, refused := g.find(ctx, secret, now)
	if refused != nil {
		return protocol.User{}, refused
	}
	g.touch(t, "", now)
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.User, nil
}

// Named returns the guest who is here with a name. It reports false if there is none.
func (g *Guests) Named(name string) (protocol.UserID, bool) {
	name, err := cleanName(name)
	if err != nil {
		return "", false
	}
	letters := nameKeys(name)[0]
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byName[letters]
	if at == nil || !g.hereLocked(at) {
		return "", false
	}
	return at.user.ID, true
}
