// Package account knows who someone is. In this version everybody is a guest:
// someone who gives a name and gets a token, which proves next time that they
// are the same. It keeps nothing but the names of those who are here.
//
// Come in at [NewGuests] and [Guests.Enter].
package account

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/visavis/visavis/protocol"
)

// tokenAge is how long a guest's token is good for.
const tokenAge = 180 * 24 * time.Hour

// Guests are the people of a place with open access.
type Guests struct {
	secret []byte

	mu     sync.Mutex        // guards all below
	byName map[string]*guest // by both keys of each name
	byID   map[protocol.UserID]*guest
}

type guest struct {
	user  protocol.User
	keys  [2]string // of the name, in byName
	count int       // entries that are not left yet
}

// NewGuests is a place without guests. The secret signs their tokens.
func NewGuests(secret []byte) *Guests {
	return &Guests{
		secret: secret,
		byName: map[string]*guest{},
		byID:   map[protocol.UserID]*guest{},
	}
}

// Enter lets someone in by name, token or both, and returns who they are and
// the token to come back with. Each Enter that succeeds wants one [Guests.Leave]
// when its session has ended. The error is for the client.
func (g *Guests) Enter(name, token string, now time.Time) (protocol.User, string, *protocol.Error) {
	var known protocol.User
	if token != "" {
		var ok bool
		if known, ok = g.verify(token, now); !ok {
			return protocol.User{}, "", protocol.Errorf(protocol.CodeUnauthorized, "the token is wrong or expired; come in by name")
		}
		if name == "" {
			name = known.Name
		}
	}
	name, keys, refused := checkedName(name)
	if refused != nil {
		return protocol.User{}, "", refused
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byID[known.ID]
	if refused := g.takenLocked(name, keys, at); refused != nil {
		return protocol.User{}, "", refused
	}
	if at == nil {
		at = &guest{user: protocol.User{ID: cmp.Or(known.ID, protocol.NewUserID())}}
	}
	g.addLocked(at, name, keys)
	return at.user, g.sign(at.user, now), nil
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

// Who is the user of a token.
func (g *Guests) Who(token string, now time.Time) (protocol.User, *protocol.Error) {
	user, ok := g.verify(token, now)
	if !ok {
		return protocol.User{}, protocol.Errorf(protocol.CodeUnauthorized, "the token is missing, wrong or expired")
	}
	return user, nil
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

const tokenVersion = "g1"

// sign is a guest's token: version, id, name, expiry and their HMAC-SHA-256.
func (g *Guests) sign(u protocol.User, now time.Time) string {
	payload := strings.Join([]string{
		tokenVersion, string(u.ID),
		base64.RawURLEncoding.EncodeToString([]byte(u.Name)),
		strconv.FormatInt(now.Add(tokenAge).Unix(), 10),
	}, ".")
	return payload + "." + g.mac(payload)
}

func (g *Guests) mac(payload string) string {
	h := hmac.New(sha256.New, g.secret)
	h.Write([]byte("visavis guest token\n" + payload))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func (g *Guests) verify(token string, now time.Time) (protocol.User, bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 || !hmac.Equal([]byte(g.mac(token[:i])), []byte(token[i+1:])) {
		return protocol.User{}, false
	}
	part := strings.Split(token[:i], ".")
	if len(part) != 4 || part[0] != tokenVersion {
		return protocol.User{}, false
	}
	name, err := base64.RawURLEncoding.DecodeString(part[2])
	expires, err2 := strconv.ParseInt(part[3], 10, 64)
	if err != nil || err2 != nil || now.Unix() >= expires {
		return protocol.User{}, false
	}
	return protocol.User{ID: protocol.UserID(part[1]), Name: string(name)}, true
}
