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
	// Secret is the key of the signed tokens of older versions, and SignedUntil when the last
	// of those was signed. Without it there are none.
	Secret      []byte
	SignedUntil time.Time
	Log         *slog.Logger
}

// Guests are the people of a place with open access. Any goroutine may call the methods.
// Only those that take a context wait, for the database and [patience] at most.
type Guests struct {
	cfg Config

	mu     sync.Mutex        // guards all below; nothing is called while it is held
	byName map[string]*guest // by both keys of each name
	byID   map[protocol.UserID]*guest
	tokens tokens
	// failing says that the last read of a token failed.
	failing bool
}

type guest struct {
	user   protocol.User
	keys   [2]string // of the name, in byName
	count  int       // entries that are not left yet
	tokens []*token  // by which the guest came in
}

// NewGuests is a place without guests.
func NewGuests(cfg Config) (*Guests, error) {
	if cfg.Logins == nil || cfg.Log == nil {
		return nil, errors.New("account: logins and log are needed")
	}
	return &Guests{
		cfg:    cfg,
		byName: map[string]*guest{},
		byID:   map[protocol.UserID]*guest{},
		tokens: newTokens(),
	}, nil
}

// Enter lets someone in by name, token or both, and returns who they are and
// the token to come back with. Each Enter that succeeds wants one [Guests.Leave]
// when its session has ended. The error is for the client: [protocol.CodeUnavailable]
// where the database cannot tell whose token it is.
func (g *Guests) Enter(ctx context.Context, name, secret string, now time.Time) (protocol.User, string, *protocol.Error) {
	var known *token
	if secret != "" {
		var refused *protocol.Error
		if known, refused = g.find(ctx, secret, now); refused != nil {
			return protocol.User{}, "", refused
		}
	}
	user, fresh, refused := g.enter(name, known, now)
	switch {
	case refused != nil:
		return protocol.User{}, "", refused
	case known == nil:
		return user, fresh, nil
	case known.signed:
		return user, g.exchange(ctx, user, secret, now), nil
	}
	g.touch(known, user.Name, now)
	return user, secret, nil
}

// enter lets someone in who has a token, or gives a newcomer one.
func (g *Guests) enter(name string, known *token, now time.Time) (user protocol.User, fresh string, refused *protocol.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var id protocol.UserID
	if known != nil {
		id = known.User.ID
		if refused := g.tokens.leftLocked(id); refused != nil {
			return protocol.User{}, "", refused
		}
		name = cmp.Or(name, known.User.Name)
	}
	name, keys, refused := checkedName(name)
	if refused != nil {
		return protocol.User{}, "", refused
	}
	at := g.byID[id]
	if refused := g.takenLocked(name, keys, at); refused != nil {
		return protocol.User{}, "", refused
	}
	if at == nil {
		at = &guest{user: protocol.User{ID: cmp.Or(id, protocol.NewUserID())}}
	}
	g.addLocked(at, name, keys)
	if known == nil {
		fresh = newSecret()
		known = &token{Login: newLogin(fresh, at.user, now)}
	}
	g.holdLocked(at, known)
	return at.user, fresh, nil
}

// EnterUnproven is Enter for a client that keeps no token. Such a guest is here once: nobody
// else may have the name meanwhile, and whoever has it later is another user.
func (g *Guests) EnterUnproven(name string) (protocol.User, *protocol.Error) {
	name, keys, refused := checkedName(name)
	if refused != nil {
		return protocol.User{}, refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if refused := g.takenLocked(name, keys, nil); refused != nil {
		return protocol.User{}, refused
	}
	at := &guest{user: protocol.User{ID: protocol.NewUnprovenUserID()}}
	g.addLocked(at, name, keys)
	return at.user, nil
}

// EnterAgain lets in once more a guest who is here, for another session of theirs. The
// caller has the proof that it is the same guest. It reports whether the guest is here.
func (g *Guests) EnterAgain(id protocol.UserID) (protocol.User, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byID[id]
	if at == nil {
		return protocol.User{}, false
	}
	at.count++
	return at.user, true
}

func checkedName(name string) (string, [2]string, *protocol.Error) {
	name, err := cleanName(name)
	if err != nil {
		return "", [2]string{}, protocol.Errorf(protocol.CodeBadName, err.Error())
	}
	return name, nameKeys(name), nil
}

// takenLocked refuses a name that somebody else than a guest has.
func (g *Guests) takenLocked(name string, keys [2]string, but *guest) *protocol.Error {
	for _, key := range keys {
		if has := g.byName[key]; has != nil && has != but {
			return protocol.Errorf(protocol.CodeNameTaken,
				"somebody here has the name "+name+", or one that looks like it; choose another name")
		}
	}
	return nil
}

// addLocked takes in a guest by a name that is free.
func (g *Guests) addLocked(at *guest, name string, keys [2]string) {
	g.freeNameLocked(at)
	at.user.Name, at.keys = name, keys
	for _, key := range keys {
		g.byName[key] = at
	}
	at.count++
	g.byID[at.user.ID] = at
}

// Holders are the guests who keep others from a name: those who have it, or one that looks
// like it.
func (g *Guests) Holders(name string) []protocol.UserID {
	_, keys, refused := checkedName(name)
	if refused != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var holders []protocol.UserID
	for _, key := range keys {
		if has := g.byName[key]; has != nil && !slices.Contains(holders, has.user.ID) {
			holders = append(holders, has.user.ID)
		}
	}
	return holders
}

// FreeName lets others have the name of a guest whose sessions have ended, before Leave was
// called for each of them. A guest with more sessions than that keeps the name.
func (g *Guests) FreeName(id protocol.UserID, sessions int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at := g.byID[id]; at != nil && at.count <= sessions {
		g.freeNameLocked(at)
	}
}

// Leave undoes one Enter; with the last the guest's name is free.
func (g *Guests) Leave(id protocol.UserID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byID[id]
	if at == nil {
		return
	}
	if at.count--; at.count == 0 {
		delete(g.byID, id)
		g.freeNameLocked(at)
		for _, t := range at.tokens {
			g.tokens.restLocked(t)
		}
	}
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
	if at == nil {
		return "", false
	}
	return at.user.ID, true
}
