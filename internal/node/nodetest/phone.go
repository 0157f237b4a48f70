package nodetest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

// Phone is a device without an open page, and the push service that reaches it.
type Phone struct {
	t       testing.TB
	service *httptest.Server
	key     *ecdh.PrivateKey
	auth    []byte
	// pushes has room for more than a test sends.
	pushes chan push
}

type push struct {
	header  http.Header
	message *protocol.Push
}

// NewPhone is a phone until the test ends; make it before the node that pushes.
func NewPhone(t testing.TB) *Phone {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &Phone{t: t, key: key, auth: make([]byte, 16), pushes: make(chan push, 64)}
	rand.Read(p.auth)
	p.service = httptest.NewServer(http.HandlerFunc(p.take))
	t.Cleanup(p.service.Close)
	return p
}

// Service is the origin of its push service, for push.services.
func (p *Phone) Service() string { return p.service.URL }

// Subscription is what its browser would tell the server.
func (p *Phone) Subscription() *protocol.Subscription {
	encode := base64.RawURLEncoding.EncodeToString
	return &protocol.Subscription{
		Endpoint: p.service.URL + "/phone",
		Keys:     protocol.SubscriptionKeys{P256dh: encode(p.key.PublicKey().Bytes()), Auth: encode(p.auth)},
	}
}

func (p *Phone) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Error(err)
		return
	}
	text, err := p.open(body)
	if err != nil {
		p.t.Errorf("the phone cannot read what was pushed: %v", err)
	}
	m, _, err := protocol.Decode(text)
	message, ok := m.(*protocol.Push)
	if err != nil || !ok {
		p.t.Errorf("pushed %q: %v", text, err)
	}
	p.pushes <- push{r.Header, message}
	w.WriteHeader(http.StatusCreated)
}

// Pushed waits for the next message, and is that with the headers it came with.
func (p *Phone) Pushed() (*protocol.Push, http.Header) {
	p.t.Helper()
	select {
	case next := <-p.pushes:
		return next.message, next.header
	case <-time.After(patience):
		p.t.Fatal("nothing was pushed")
		return nil, nil
	}
}

// open decrypts a message as a browser does (RFC 8291, RFC 8188).
func (p *Phone) open(body []byte) ([]byte, error) {
	const header = 16 + 4 + 1 + 65
	if len(body) < header {
		return nil, errors.New("that is too short")
	}
	salt, point := body[:16], body[21:header]
	server, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	shared, err := p.key.ECDH(server)
	if err != nil {
		return nil, err
	}
	secret, err1 := hkdf.Key(sha256.New, shared, p.auth, "WebPush: info\x00"+string(p.key.PublicKey().Bytes())+string(point), 32)
	key, err2 := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce, err3 := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: nonce\x00", 12)
	block, err4 := aes.NewCipher(key)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	text, err := gcm.Open(nil, nonce, body[header:], nil)
	if err != nil || len(text) == 0 {
		return nil, errors.Join(err, errors.New("it is not for this phone"))
	}
	return text[:len(text)-1], nil // but the delimiter
}
