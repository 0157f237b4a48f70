package outbox

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

const (
	// pointBytes is the length of an uncompressed point on P-256.
	pointBytes = 65
	// recordSize is the size of the one record of a message (RFC 8188 §2.1). Push services accept at least 4096 bytes
	// (RFC 8030 §7.2).
	recordSize = 4096
	saltBytes  = 16
	// recordOverhead is the length of what a record has in addition to its text: a delimiter and a tag.
	recordOverhead = 1 + 16
)

// seal encrypts a text for a device, with a key and a salt that are used only once.
func seal(d *Device, text []byte) ([]byte, error) {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	return sealWith(own, salt, d, text)
}

// sealWith encrypts as in RFC 8291 §3.4, and encodes as in RFC 8188 §2.
func sealWith(own *ecdh.PrivateKey, salt []byte, d *Device, text []byte) ([]byte, error) {
	header := make([]byte, 0, recordSize)
	header = append(header, salt...)
	header = binary.BigEndian.AppendUint32(header, recordSize)
	header = append(header, pointBytes)
	header = append(header, own.PublicKey().Bytes()...)
	if len(header)+len(text)+recordOverhead > recordSize {
		return nil, errors.New("the message is too long for a push")
	}
	device, err := ecdh.P256().NewPublicKey(d.Key)
	if err != nil {
		return nil, err
	}
	shared, err := own.ECDH(device)
	if err != nil {
		return nil, err
	}
	info := "WebPush: info\x00" + string(d.Key) + string(own.PublicKey().Bytes())
	secret, err := hkdf.Key(sha256.New, shared, d.Auth, info, 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, secret, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	last := append(append(make([]byte, 0, len(text)+1), text...), 2) // the delimiter of the last record
	return gcm.Seal(header, nonce, last, nil), nil
}
