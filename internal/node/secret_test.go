package node

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/visavis/visavis/internal/relay/feed"
)

func TestSecretsMustBeGenerated(t *testing.T) {
	for range 1000 {
		secret := make([]byte, secretBytes)
		rand.Read(secret)
		for _, good := range []string{
			NewSecret(), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
			base64.StdEncoding.EncodeToString(secret), base64.URLEncoding.EncodeToString(secret),
		} {
			cfg := DefaultConfig()
			if cfg.Relay.Secret = good; cfg.Validate() != nil || cfg.ValidateRelay() != nil {
				t.Fatalf("%q is refused: %v, %v", good, cfg.Validate(), cfg.ValidateRelay())
			}
		}
	}
	for what, bad := range map[string]string{
		"a word":                "hunter2",
		"words":                 "correct horse battery staple, and so on for a long time",
		"words without spaces":  "correcthorsebatterystapleandsoonforalongtime",
		"a pattern":             strings.Repeat("aB3", 20),
		"one digit":             strings.Repeat("0", 64),
		"hexadecimal, 16 bytes": "8f14e45fceea167a5a36dedd4bea2543",
		"31 bytes":              NewSecret()[:41],
	} {
		cfg := DefaultConfig()
		cfg.Relay.Secret = bad
		for _, err := range []error{cfg.Validate(), cfg.ValidateRelay()} {
			var refused *ConfigError
			if !errors.As(err, &refused) || refused.Key != "relay.secret" || !strings.Contains(refused.Hint(), "visavis secret") {
				t.Errorf("%s: error %v", what, err)
			}
			if err != nil && strings.Contains(err.Error(), bad) {
				t.Errorf("%s: the error shows the secret", what)
			}
		}
	}
	cfg := DefaultConfig()
	cfg.Relay.Enabled, cfg.Relay.Secret = false, "hunter2"
	cfg.Relay.Others = []feed.URL{{Host: "relay.example.org", Port: 3478}}
	if cfg.Validate() == nil {
		t.Error("a weak secret is taken for relays elsewhere")
	}
}
