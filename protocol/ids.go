package protocol

import (
	"crypto/rand"
	"strings"
)

// UserID names a user for as long as the server knows them. Opaque to clients.
type UserID string

// SessionID names one session. Opaque; it is no secret and gives no rights.
type SessionID string

// CallID names one call. It is opaque to clients; the part before the first
// hyphen is the node that owns the call.
type CallID string

// NewUserID makes the id of a new user.
func NewUserID() UserID { return UserID("u" + randomText()) }

// NewUnprovenUserID makes the id of a user who proves nothing. It is never that of a user
// who has a token.
func NewUnprovenUserID() UserID { return UserID("n" + randomText()) }

// NewSessionID makes the id of a new session.
func NewSessionID() SessionID { return SessionID("s" + randomText()) }

// NewCallID makes the id of a new call that node owns.
func NewCallID(node string) CallID { return CallID(node + "-" + randomText()) }

// randomText is ≥ 128 random bits in lower-case letters and digits, so that an id
// can stand in a file name, a URL and a log line as it is.
func randomText() string { return strings.ToLower(rand.Text()) }
