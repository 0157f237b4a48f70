package outbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/protocol"
)

// TestWhoSends verifies a signature as a push service does.
func TestWhoSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestOutbox(t, phone)
		s.Push("bob", pushed("c1", protocol.PushRinging))
		synctest.Wait()
		auth, ok := strings.CutPrefix(s.transport.deliveries[0].header.Get("Authorization"), "vapid t=")
		token, key, ok2 := strings.Cut(auth, ",k=")
		if !ok || !ok2 || key != s.Key() {
			t.Fatalf("authorization %q", auth)
		}
		part := strings.Split(token, ".")
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw(t, key))
		if err != nil {
			t.Fatal(err)
		}
		hash, signature := sha256.Sum256([]byte(part[0]+"."+part[1])), raw(t, part[2])
		r, sig := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if len(signature) != 64 || !ecdsa.Verify(public, hash[:], r, sig) {
			t.Error("the signature is wrong")
		}
		var claims struct {
			Aud, Sub string
			Exp      int64
		}
		if err := json.Unmarshal(raw(t, part[1]), &claims); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(time.Unix(claims.Exp, 0)); left < time.Hour || left > 24*time.Hour {
			t.Errorf("good for %v", left)
		}
		if claims.Aud != "https://fcm.googleapis.com" || claims.Sub != "mailto:ann@example.org" || string(raw(t, part[0])) != `{"typ":"JWT","alg":"ES256"}` {
			t.Errorf("claims %+v, header %s", claims, raw(t, part[0]))
		}
		again := newTestOutbox(t)
		if again.Key() != s.Key() {
			t.Error("the key changes with a restart")
		}
	})
}
