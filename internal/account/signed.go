package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

// signedVersion begins the tokens that older versions signed and kept nowhere:
// version, id, name, expiry and their HMAC-SHA-256. Enter exchanges them. The last one
// expires 180 days after the update to this version. From then on the key, which is in the
// database, opens nothing.
const signedVersion = "g1"

// verifySigned is whose token of an older version it is, and when it was issued.
func (g *Guests) verifySigned(secret string, now time.Time) (u protocol.User, issued time.Time, ok bool) {
	i := strings.LastIndexByte(secret, '.')
	if i < 0 || len(g.cfg.Secret) == 0 || !hmac.Equal([]byte(mac(g.cfg.Secret, secret[:i])), []byte(secret[i+1:])) {
		return protocol.User{}, time.Time{}, false
	}
	part := strings.Split(secret[:i], ".")
	if len(part) != 4 || part[0] != signedVersion {
		return protocol.User{}, time.Time{}, false
	}
	name, err := base64.RawURLEncoding.DecodeString(part[2])
	expires, err2 := strconv.ParseInt(part[3], 10, 64)
	issued = time.Unix(expires, 0).Add(-LoginAge)
	if err != nil || err2 != nil || now.Unix() >= expires || issued.After(g.cfg.SignedUntil) {
		return protocol.User{}, time.Time{}, false
	}
	return protocol.User{ID: protocol.UserID(part[1]), Name: string(name)}, issued, true
}

func mac(key []byte, payload string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("visavis guest token\n" + payload))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
