package outbox

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/visavis/visavis/protocol"
)

func raw(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSealedAsTheStandardHasIt is RFC 8291, Appendix A.
func TestSealedAsTheStandardHasIt(t *testing.T) {
	own, err := ecdh.P256().NewPrivateKey(raw(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{
		Key:  raw(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
		Auth: raw(t, "BTBZMqHH6r4Tts7J_aSIgg"),
	}
	got, err := sealWith(own, raw(t, "DGv6ra1nlYgDCS1FRnbzlw"), d, []byte("When I grow up, I want to be a watermelon"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml" +
		"mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT" +
		"pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if encoded := base64.RawURLEncoding.EncodeToString(got); encoded != want {
		t.Errorf("got  %s\nwant %s", encoded, want)
	}
}

// browser is the other end: a subscription with its private key.
type browser struct {
	private *ecdh.PrivateKey
	auth    []byte
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{private: private, auth: make([]byte, 16)}
	rand.Read(b.auth)
	return b
}

func (b *browser) subscription(endpoint string) *protocol.Subscription {
	return &protocol.Subscription{Endpoint: endpoint, Keys: protocol.SubscriptionKeys{
		P256dh: base64.RawURLEncoding.EncodeToString(b.private.PublicKey().Bytes()),
		Auth:   base64.RawURLEncoding.EncodeToString(b.auth),
	}}
}

// open decrypts what was pushed.
func (b *browser) open(body []byte) ([]byte, error) {
	if len(body) < 86 || binary.BigEndian.Uint32(body[16:]) != 4096 || body[20] != 65 {
		return nil, errors.New("that is no header of RFC 8188")
	}
	salt, point, record := body[:16], body[21:86], body[86:]
	server, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	shared, err := b.private.ECDH(server)
	if err != nil {
		return nil, err
	}
	secret, err1 := hkdf.Key(sha256.New, shared, b.auth, "WebPush: info\x00"+string(b.private.PublicKey().Bytes())+string(point), 32)
	key, err2 := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce, err3 := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: nonce\x00", 12)
	block, err4 := aes.NewCipher(key)
	gcm, err5 := cipher.NewGCM(block)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	text, err := gcm.Open(nil, nonce, record, nil)
	return bytes.TrimSuffix(text, []byte{2}), err
}

func TestSealIsOpenedByItsDeviceOnly(t *testing.T) {
	bob, eve := newBrowser(t), newBrowser(t)
	d := &Device{Key: bob.private.PublicKey().Bytes(), Auth: bob.auth}
	first, err := seal(d, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := bob.open(first); err != nil || string(text) != "hello" {
		t.Errorf("opened: %q, %v", text, err)
	}
	if _, err := eve.open(first); err == nil {
		t.Error("another device opens it")
	}
	second, err := seal(d, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first[:86], second[:86]) {
		t.Error("key and salt are used twice")
	}
	if _, err := seal(d, []byte(strings.Repeat("x", 4096-86-17))); err != nil {
		t.Errorf("the longest message: %v", err)
	}
	if _, err := seal(d, []byte(strings.Repeat("x", 4096-86-16))); err == nil {
		t.Error("a message is sealed that push services need not take")
	}
}
