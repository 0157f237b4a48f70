package node

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

// secretBytes is the length of a secret that is made: nobody can guess 256 bits,
// and HMAC-SHA-256 has no use for more.
const secretBytes = 32

// NewSecret is 32 random bytes in base64url (RFC 4648 §5): a value for
// [Relay.Secret].
func NewSecret() string {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return base64.RawURLEncoding.EncodeToString(secret)
}

// generated reports whether a secret can be 32 random bytes or more in hexadecimal
// or base64, of either alphabet. Anything that a person types is refused: whoever has
// a credential of the relay can try secrets without asking anybody. Of 32 random
// bytes less than one in a million has so few different digits or no letter of one case.
func generated(secret string) bool {
	const digits, upper, lower = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
	secret = strings.TrimRight(secret, "=")
	different := map[rune]bool{}
	for _, r := range secret {
		different[r] = true
	}
	madeOf := func(alphabet string) bool { return strings.Trim(secret, alphabet) == "" }
	switch {
	case madeOf(digits + "abcdef"), madeOf(digits + "ABCDEF"):
		return len(secret) >= secretBytes*2 && len(different) >= 10
	case madeOf(digits + upper + lower + "+/-_"):
		return len(secret) >= (secretBytes*8+5)/6 && len(different) >= 18 &&
			strings.ContainsAny(secret, upper) && strings.ContainsAny(secret, lower)
	}
	return false
}

func (c *Config) checkSecret() error {
	if s := c.Relay.Secret; s != "" && !generated(s) {
		return &ConfigError{
			"relay.secret", "it is not 32 random bytes in base64 or hexadecimal, so it can be guessed",
			"\"visavis secret\" makes one; the server and its relays must have the same",
		}
	}
	return nil
}
