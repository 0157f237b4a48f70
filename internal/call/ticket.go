package call

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/visavis/visavis/protocol"
)

// ticketAge bounds how long after accept a ticket is good for.
const ticketAge = 24 * time.Hour

// ticket is what both parties of an active call hold, so that a server that has
// forgotten the call, or never knew it, can take it up (PROTOCOL.md, section 4, rejoin).
type ticket struct {
	Call           protocol.CallID
	Caller, Callee ticketParty
	Video          bool
	RungAt         int64 // Unix milliseconds, as AcceptedAt
	AcceptedAt     int64
}

type ticketParty struct {
	User protocol.UserID
	Name string
}

func (p ticketParty) user() protocol.User { return protocol.User{ID: p.User, Name: p.Name} }

// seal is the ticket as its holders carry it: JSON and its HMAC-SHA-256.
func (t ticket) seal(secret []byte) string {
	body, err := json.Marshal(t)
	if err != nil {
		panic(err) // unreachable: a plain struct
	}
	payload := base64.RawURLEncoding.EncodeToString(body)
	return payload + "." + ticketMAC(secret, payload)
}

func ticketMAC(secret []byte, payload string) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("visavis ticket\n" + payload))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// openTicket is the ticket of a sealed one, unless it is forged or expired.
func openTicket(secret []byte, sealed string, now time.Time) (ticket, bool) {
	payload, mac, ok := strings.Cut(sealed, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(ticketMAC(secret, payload))) {
		return ticket{}, false
	}
	body, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ticket{}, false
	}
	var t ticket
	if err := json.Unmarshal(body, &t); err != nil {
		return ticket{}, false
	}
	return t, now.Before(time.UnixMilli(t.AcceptedAt).Add(ticketAge))
}
