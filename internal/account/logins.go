package account

import (
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

// LoginAge is how long a token is good for after its last use.
const LoginAge = 180 * 24 * time.Hour

const (
	// patience bounds the wait for the database when somebody comes in.
	patience = 500 * time.Millisecond
	// touchEvery is how exactly the last use of a token is kept.
	touchEvery = 24 * time.Hour
	// maxStrangers and maxKnown bound the tokens in memory of guests who are not here:
	// those that only this memory has, and those that the database has, too.
	maxStrangers = 1 << 14
	maxKnown     = 1 << 16
	// maxHeld bounds the tokens of one guest who is here.
	maxHeld = 20
	// leftFor is how long it is remembered that a user has signed out everywhere: longer
	// than any read of the database that began before.
	leftFor = time.Minute
)

// A Hash is the SHA-256 of a token. A token has 130 random bits, so nobody finds it by
// trying.
type Hash [sha256.Size]byte

// Login is a token, as it is kept.
type Login struct {
	Hash      Hash
	User      protocol.User // id and name
	CreatedAt time.Time
	UsedAt    time.Time // to a day
}

// Logins keeps tokens over a restart.
type Logins interface {
	// Login is the login of a token, whether there is one, and whether its user has
	// signed out everywhere. An error says that this cannot be told now.
	Login(context.Context, Hash) (l Login, found, signedOut bool, err error)
	// KeepLogin hands over a login, to be written soon. It does not wait. It reports
	// whether there was room.
	KeepLogin(Login) bool
	// AddLogin writes one now. Of many of one user, the one used longest ago gives way.
	AddLogin(context.Context, Login) error
	// SignOut makes all logins of a user void, and those made before there were any here.
	SignOut(ctx context.Context, user protocol.UserID, now time.Time) error
	// SignedOut reports whether a user has done that.
	SignedOut(context.Context, protocol.UserID) (bool, error)
}

// secretVersion begins a token.
const secretVersion = "g2."

// newSecret is a fresh token: 130 random bits.
func newSecret() string { return secretVersion + rand.Text() }

func hashOf(secret string) Hash { return sha256.Sum256([]byte(secret)) }

func newLogin(secret string, u protocol.User, now time.Time) Login {
	u.Presence = ""
	return Login{Hash: hashOf(secret), User: u, CreatedAt: now, UsedAt: now}
}

// token is one that is known here. Guarded by Guests.mu, but for the fields that do not
// change: the hash, the user's id and signed.
type token struct {
	Login
	kept    bool          // the database has it, or is about to
	signed  bool          // of an older version: good until it expires, and to be exchanged
	resting *list.Element // while its user is not here
}

func (t *token) expired(now time.Time) bool { return now.Sub(t.UsedAt) >= LoginAge }

// tokens are those that can be told without the database: of all guests who are here, and
// of the latest who were. Guarded by Guests.mu.
type tokens struct {
	byHash map[Hash]*token
	byUser map[protocol.UserID][]*token
	// strangers and known are those of guests who are not here, the one first that was used
	// longest ago. Nothing but memory has those of strangers, who were in no call.
	strangers, known list.List
	// left are the users who have signed out everywhere of late, or are about to.
	left map[protocol.UserID]leave
}

// leave is when a user signed out everywhere; done once the database knows.
type leave struct {
	at   time.Time
	done bool
}

func newTokens() tokens {
	return tokens{byHash: map[Hash]*token{}, byUser: map[protocol.UserID][]*token{}, left: map[protocol.UserID]leave{}}
}

// addLocked takes in a token, or wakes one that rests.
func (ts *tokens) addLocked(t *token) {
	switch known := ts.byHash[t.Hash]; known {
	case t:
		ts.wakeLocked(t)
		return
	case nil:
	default: // read twice
		ts.forgetLocked(known)
	}
	ts.byHash[t.Hash] = t
	ts.byUser[t.User.ID] = append(ts.byUser[t.User.ID], t)
}

// restLocked lets go of a token whose user is not here.
func (ts *tokens) restLocked(t *token) {
	spare, bound := &ts.strangers, maxStrangers
	if t.kept {
		spare, bound = &ts.known, maxKnown
	}
	ts.addLocked(t)
	t.resting = spare.PushBack(t)
	if spare.Len() > bound {
		ts.forgetLocked(spare.Front().Value.(*token)) //nolint:forcetypeassert // nothing else is in it
	}
}

func (ts *tokens) wakeLocked(t *token) {
	if t.resting != nil {
		ts.strangers.Remove(t.resting)
		ts.known.Remove(t.resting)
		t.resting = nil
	}
}

func (ts *tokens) forgetLocked(t *token) {
	ts.wakeLocked(t)
	delete(ts.byHash, t.Hash)
	id := t.User.ID
	ts.byUser[id] = slices.DeleteFunc(ts.byUser[id], func(other *token) bool { return other == t })
	if len(ts.byUser[id]) == 0 {
		delete(ts.byUser, id)
	}
}

// leftLocked refuses a user who has signed out everywhere of late.
func (ts *tokens) leftLocked(id protocol.UserID) *protocol.Error {
	switch l, left := ts.left[id]; {
	case !left:
		return nil
	case l.done:
		return signedOut()
	}
	return unavailable()
}

func signedOut() *protocol.Error {
	return protocol.Errorf(protocol.CodeSignedOut, "this user has signed out everywhere; come in by name")
}

func unavailable() *protocol.Error {
	return protocol.Errorf(protocol.CodeUnavailable, "the server cannot tell now whose token that is; try again in some seconds")
}

// holdLocked keeps a token in memory for as long as its guest is here.
func (g *Guests) holdLocked(at *guest, t *token) {
	if slices.Contains(at.tokens, t) {
		return
	}
	if len(at.tokens) >= maxHeld {
		g.tokens.restLocked(at.tokens[0])
		at.tokens = at.tokens[1:]
	}
	g.tokens.addLocked(t)
	at.tokens = append(at.tokens, t)
}

// find is the token of a guest, from memory or else from the database.
func (g *Guests) find(ctx context.Context, secret string, now time.Time) (*token, *protocol.Error) {
	hash := hashOf(secret)
	if t, refused := g.recall(hash, now); t != nil || refused != nil {
		return t, refused
	}
	read, refused := g.read(ctx, secret, now)
	if refused != nil {
		return nil, refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if refused := g.tokens.leftLocked(read.User.ID); refused != nil {
		return nil, refused
	}
	if t := g.tokens.byHash[hash]; t != nil { // another session was faster
		return t, nil
	}
	g.tokens.restLocked(read)
	return read, nil
}

// recall is a token that is in memory.
func (g *Guests) recall(hash Hash, now time.Time) (*token, *protocol.Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tokens.byHash[hash]
	if t == nil || t.expired(now) && (t.signed || t.resting != nil) {
		return nil, nil //nolint:nilnil // there is none
	}
	if refused := g.tokens.leftLocked(t.User.ID); refused != nil {
		return nil, refused
	}
	if t.resting != nil {
		g.tokens.restLocked(t)
	}
	return t, nil
}

// read is a token from the database. What cannot be read is unavailable, never unauthorized:
// a client would forget its token.
func (g *Guests) read(ctx context.Context, secret string, now time.Time) (*token, *protocol.Error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t := &token{kept: true}
	var found, out bool
	var err error
	if user, issued, ok := g.verifySigned(secret, now); ok {
		found, t.signed = true, true
		t.Login = Login{Hash: hashOf(secret), User: user, CreatedAt: issued, UsedAt: issued}
		out, err = g.cfg.Logins.SignedOut(ctx, user.ID)
	} else if strings.HasPrefix(secret, secretVersion) {
		t.Login, found, out, err = g.cfg.Logins.Login(ctx, hashOf(secret))
	}
	g.noteFailure(err)
	switch {
	case err != nil:
		return nil, unavailable()
	case !found || t.expired(now):
		return nil, protocol.Errorf(protocol.CodeUnauthorized, "the token is missing, wrong or expired; come in by name")
	case out:
		return nil, signedOut()
	}
	return t, nil
}

// noteFailure logs the first of several failures to read a token.
func (g *Guests) noteFailure(err error) {
	g.mu.Lock()
	first := err != nil && !g.failing
	g.failing = err != nil
	g.mu.Unlock()
	if first {
		g.cfg.Log.Warn("guests who come back must wait: their tokens cannot be read", "err", err)
	}
}

// exchange gives a guest who came with a token of an older version a new one. It is in the
// database when the guest gets it; where that fails, the old one stays good until the next time.
func (g *Guests) exchange(ctx context.Context, user protocol.User, old string, now time.Time) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fresh := newSecret()
	t := &token{Login: newLogin(fresh, user, now), kept: true}
	if err := g.cfg.Logins.AddLogin(ctx, t.Login); err != nil {
		return old
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, left := g.tokens.left[user.ID]
	if at := g.byID[user.ID]; at != nil && !left {
		g.holdLocked(at, t)
	}
	return fresh
}

// touch notes that a token is used, and the name of its user unless that is empty.
func (g *Guests) touch(t *token, name string, now time.Time) {
	g.mu.Lock()
	changed := name != "" && name != t.User.Name
	if changed {
		t.User.Name = name
	}
	if !changed && now.Sub(t.UsedAt) < touchEvery || t.signed {
		g.mu.Unlock()
		return
	}
	t.UsedAt = now
	kept, login := t.kept, t.Login
	g.mu.Unlock()
	if kept {
		g.cfg.Logins.KeepLogin(login)
	}
}

// Keep has the tokens of a guest who is here outlive a restart. It does not wait.
func (g *Guests) Keep(id protocol.UserID) {
	for _, login := range g.unkept(id) {
		if g.cfg.Logins.KeepLogin(login) {
			continue
		}
		g.mu.Lock()
		if t := g.tokens.byHash[login.Hash]; t != nil {
			t.kept = false // until the next time
		}
		g.mu.Unlock()
	}
}

// unkept are the logins of a guest who is here that the database does not have; from now
// on they count as kept.
func (g *Guests) unkept(id protocol.UserID) []Login {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byID[id]
	if _, left := g.tokens.left[id]; left || at == nil {
		return nil
	}
	var logins []Login
	for _, t := range at.tokens {
		if !t.kept {
			t.kept = true
			logins = append(logins, t.Login)
		}
	}
	return logins
}

// SignOut makes all tokens of a user void: the one who comes in by their name is somebody
// else. The caller ends their sessions, and afterwards those of whoever was about to come
// in meanwhile ([Guests.SignedOut]). An error is for the client, and says that all is as before.
func (g *Guests) SignOut(ctx context.Context, id protocol.UserID, now time.Time) *protocol.Error {
	kept := g.beginSignOut(id, now)
	if kept {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := g.cfg.Logins.SignOut(ctx, id, now); err != nil {
			g.cfg.Log.Warn("a user cannot sign out", "err", err)
			g.mu.Lock()
			delete(g.tokens.left, id)
			g.mu.Unlock()
			return protocol.Errorf(protocol.CodeUnavailable, "the server cannot sign you out now; try again in some seconds")
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tokens.left[id] = leave{at: now, done: true}
	for _, t := range slices.Clone(g.tokens.byUser[id]) {
		g.tokens.forgetLocked(t)
	}
	if at := g.byID[id]; at != nil {
		at.tokens = nil
	}
	return nil
}

// beginSignOut keeps a user out until it is known whether they have signed out. It reports
// whether the database may have tokens of theirs.
func (g *Guests) beginSignOut(id protocol.UserID, now time.Time) (kept bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for other, l := range g.tokens.left {
		if l.done && now.Sub(l.at) > leftFor {
			delete(g.tokens.left, other)
		}
	}
	g.tokens.left[id] = leave{at: now}
	all := g.tokens.byUser[id]
	return len(all) == 0 || slices.ContainsFunc(all, func(t *token) bool { return t.kept })
}

// SignedOut reports whether a user has signed out everywhere within the last minute.
func (g *Guests) SignedOut(id protocol.UserID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tokens.left[id].done
}
