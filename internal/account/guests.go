// Package account knows who someone is. In this version everybody is a guest:
// someone who gives a name and gets a token, which proves next time that they
// are the same. It keeps nothing but the names of those who are here.
//
// Come in at [NewGuests] and [Guests.Enter].
package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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
	user protocol.User
	keys [2]string // of the name, in byName
	// proven says that the guest has been given a token: only who shows it may
	// have the name while the guest is here.
	proven bool
	count  int // entries that are not left yet
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
	return g.enter(name, token, true, now)
}

// EnterUnproven is Enter for a client that keeps no token: who comes with the
// same name while such a guest is here is taken for the same guest.
func (g *Guests) EnterUnproven(name string, now time.Time) (protocol.User, *protocol.Error) {
	user, _, err := g.enter(name, "", false, now)
	return user, err
}

func (g *Guests) enter(name, token string, proven bool, now time.Time) (protocol.User, string, *protocol.Error) {
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
	name, err := cleanName(name)
	if err != nil {
		return protocol.User{}, "", protocol.Errorf(protocol.CodeBadName, err.Error())
	}
	keys := nameKeys(name)

	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byID[known.ID]
	for _, key := range keys {
		has := g.byName[key]
		if has == nil || has == at {
			continue
		}
		if proven || has.proven {
			return protocol.User{}, "", protocol.Errorf(protocol.CodeNameTaken,
				"somebody here has the name "+name+", or one that looks like it; choose another name")
		}
		at = has
	}
	if at == nil {
		at = &guest{user: protocol.User{ID: known.ID}}
		if known.ID == "" {
			at.user.ID = protocol.NewUserID()
		}
		g.byID[at.user.ID] = at
	}
	g.freeNameLocked(at)
	at.user.Name, at.keys = name, keys
	for _, key := range keys {
		g.byName[key] = at
	}
	at.count++
	at.proven = at.proven || proven
	if !proven {
		return at.user, "", nil
	}
	return at.user, g.sign(at.user, now), nil
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

// freeNameLocked lets others have the guest's name. Unproven guests may share a key.
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
