package relay

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"strconv"
	"strings"
	"time"
)

const (
	shortestSecret = 32        // bytes: the output of the hash it keys
	longestTTL     = time.Hour // what leaks is soon worth nothing
)

// Credentials are what a client shows to have an allocation.
type Credentials struct {
	Username, Password string
	Expires            time.Time
}

// Issue signs credentials for the one party of a call that user is; call and party may be empty. They are good for
// ttl, at most an hour, to the second. The three names together must not pass 350 bytes, for STUN bounds user
// names (RFC 8489 §14.3). A Server accepts them when secret is among its Config.Secrets.
func Issue(secret []byte, user, call, party string, now time.Time, ttl time.Duration) Credentials {
	expires := now.Add(min(ttl, longestTTL)).Truncate(time.Second)
	encode := base64.RawURLEncoding.EncodeToString
	username := strings.Join([]string{
		strconv.FormatInt(expires.Unix(), 10), secretID(secret),
		encode([]byte(user)), encode([]byte(call)), encode([]byte(party)),
	}, ":")
	return Credentials{Username: username, Password: password(secret, username), Expires: expires}
}

// A claim is what the user name of credentials says. It proves nothing until the password was shown.
type claim struct {
	expires           time.Time
	secretID          string
	user, call, party string
	holder            string // user and call, encoded: whose quotas they are
}

// same tells whether two claims are one party's: fresh credentials serve what older ones made.
func (c claim) same(d claim) bool { return c.user == d.user && c.call == d.call && c.party == d.party }

var errUsername = errors.New("malformed user name")

// parseUsername accepts what Issue makes, and no second spelling of it.
func parseUsername(username string) (claim, error) {
	fields := strings.Split(username, ":")
	if len(fields) != 5 {
		return claim{}, errUsername
	}
	seconds, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != fields[0] {
		return claim{}, errUsername
	}
	var names [3]string
	for i, field := range fields[2:] {
		name, err := base64.RawURLEncoding.Strict().DecodeString(field)
		// The decoder skips line breaks.
		if err != nil || strings.ContainsAny(field, "\r\n") {
			return claim{}, errUsername
		}
		names[i] = string(name)
	}
	return claim{
		expires:  time.Unix(seconds, 0),
		secretID: fields[1],
		user:     names[0], call: names[1], party: names[2],
		holder: fields[2] + ":" + fields[3],
	}, nil
}

func password(secret []byte, username string) string {
	return string(appendPassword(nil, hmac.New(sha256.New, secret), []byte(username)))
}

// appendPassword adds the password of a user name; mac is keyed by the secret.
func appendPassword(b []byte, mac hash.Hash, username []byte) []byte {
	var sum [sha256.Size]byte
	mac.Reset()
	mac.Write(username)
	return base64.StdEncoding.AppendEncode(b, mac.Sum(sum[:0]))
}

// secretID tells secrets apart without giving them away. User names carry it so that a forged one
// costs one signature, however many secrets there are.
func secretID(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("visavis relay secret id"))
	return hex.EncodeToString(mac.Sum(nil)[:4])
}
