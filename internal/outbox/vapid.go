package outbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// tokenAge is how long a signature is valid. RFC 8292 §2 allows 24 h. It is less, because clocks differ.
const tokenAge = 12 * time.Hour

// CheckContact returns an error if a [Config].Contact is neither empty nor a mailto: or https: URL (RFC 8292 §2.1).
func CheckContact(contact string) error {
	u, err := url.Parse(contact)
	switch {
	case contact == "":
		return nil
	case err == nil && u.Scheme == "mailto" && u.Opaque != "", err == nil && u.Scheme == "https" && u.Host != "":
		return nil
	}
	return fmt.Errorf("%q is neither a mailto: nor an https: address", contact)
}

// newSigner derives our VAPID key from a secret. The same secret always gives the same key.
func newSigner(secret []byte) (*ecdsa.PrivateKey, error) {
	for i := range 8 { // one value in 2^32 is no key
		raw, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("visavis vapid %d", i), 32)
		if err != nil {
			return nil, err
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("outbox: the secret makes no key")
}

// Key returns our public VAPID key, an uncompressed point in base64url. A browser subscribes with it
// (applicationServerKey).
func (o *Outbox) Key() string {
	point, err := o.signer.PublicKey.Bytes()
	if err != nil {
		panic(err) // unreachable: it was made on P-256
	}
	return base64.RawURLEncoding.EncodeToString(point)
}

// authorization returns the Authorization header of a request to an endpoint. It proves to the push service that we
// have the key with which the device has subscribed (RFC 8292 §3).
func (o *Outbox) authorization(endpoint *url.URL, now time.Time) (string, error) {
	claims, err := json.Marshal(struct {
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Subject  string `json:"sub,omitempty"`
	}{originOf(endpoint), now.Add(tokenAge).Unix(), o.cfg.Contact})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + encode(claims)
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, o.signer, hash[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64) // RFC 7518 §3.4
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return "vapid t=" + signed + "." + encode(signature) + ",k=" + o.Key(), nil
}
