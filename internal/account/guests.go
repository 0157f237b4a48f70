// Package account knows who someone is. In this version everybody is a guest:
// someone who gives a name and gets a token, which proves next time that they
// are the same. It keeps in memory who is here and which tokens were seen of
// late; a [Logins] keeps the tokens of those who have been in a call.
//
// A [Directory] says who may ring whom, and how.
//
// Come in at [NewGuests] and [Guests.Enter].
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

// Config is what [Guests] are made of.
type Config struct {
	// Logins keeps the tokens of guests who have been in a call. Needed.
	Logins Logins
	// Sessions knows who is here. Needed.
	Sessions Sessions
	// Secret is the key of the signed tokens of older versions, and SignedUntil when the last
	// of those was signed. Without it there are none.
	Secret      []byte
	SignedUntil time.Time
	Log         *slog.Logger
}

// Sessions are those of the people who are here.
type Sessions interface {
	Presence
	// Dismiss ends the sessions of a user who has had no connection for a while and is in no
	// call. It reports whether the user has no session now.
	Dismiss(protocol.UserID) bool
}

// Guests are the people of a place with open access. Any goroutine may call the methods.
// Only those that take a context wait, for the database and [patience] at most.
type Guests struct {
	cfg Config

	mu     sync.Mutex        // guards all below; nothing but Sessions.Here is called while it is held
	byName map[string]*guest // by both keys of each name
	byID   map[protocol.UserID]*guest
	tokens tokens
	// failing says that the last read of a token failed.
	failing bool
}

// guest is one who is here, or is coming in.
type guest struct {
	user     protocol.User
	keys     [2]string // of the name, in byName
	entering int       // calls of Enter that no Entered has followed
	tokens   []*token  // by which the guest came in
}

// NewGuests is a place without guests.
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

// Credentials are what a client gives of who it is.
type Credentials struct {
	// Name is the name to be known by; empty for the one of the last time.
	Name string
	// Token is that of an earlier visit; empty for a newcomer.
	Token string
	// Unproven says that the client keeps no token. Such a guest is here once: nobody else may
	// have the name meanwhile, and whoever has it later is another user.
	Unproven bool
	// Again is a guest who is here and opens another session. The caller has the proof.
	Again protocol.UserID
}

// Visitor is who has come in.
type Visitor struct {
	User protocol.User
	// Token is what to come back with; empty for a guest who keeps none.
	Token string

	entered *bool // guarded by Guests.mu
}

// Enter lets someone in. A name belongs to whoever is here; that of somebody who is gone for
// certain is free ([Sessions.Dismiss]). Each Enter that succeeds wants one [Guests.Entered].
// The error is for the client: [protocol.CodeUnavailable] where the database cannot tell whose
// token it is.
func (g *Guests) Enter(ctx context.Context, c Credentials, now time.Time) (Visitor, *protocol.Error) {
	v, holders, refused := g.enter(ctx, c, now)
	if len(holders) > 0 && !slices.ContainsFunc(holders, func(id protocol.UserID) bool { return !g.cfg.Sessions.Dismiss(id) }) {
		v, _, refused = g.enter(ctx, c, now)
	}
	return v, refused
}

// Entered follows each Enter that has succeeded, when the hub has a session for the visitor, or
// has refused one. To call it again is fine.
func (g *Guests) Entered(v Visitor) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.byID[v.User.ID]; at != nil && !*v.entered {
		*v.entered = true
		at.entering--
		g.forgetLocked(at)
	}
}

// Departed says that a session of a user has ended. With the last one the guest's name is free.
func (g *Guests) Departed(id protocol.UserID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.byID[id]; at != nil {
		g.forgetLocked(at)
	}
}

// hereLocked reports whether a guest is here, or about to be: one who has signed out is not.
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

// enter is Enter once. Where a name is taken, it returns who keeps the visitor from it.
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

// enterByName lets someone in who has a token, or gives a newcomer one.
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

// enterAgain lets in once more a guest who is here.
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

// holdersLocked are the guests other than one who have a name, or one that looks like it, and
// are here.
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

// addLocked takes in a guest by a name that is free.
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

// Who is the user of a token. The error is for the client, as that of Enter.
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

// Named is the guest here who has a name.
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
