package wire

import (
	"bytes"
	"crypto/md5"
	"testing"

	"github.com/pion/stun/v4"
)

// pion/stun reads what is written.
func TestResponses(t *testing.T) {
	request := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
	for _, fingerprint := range []bool{false, true} {
		b := BeginError(nil, request.Raw, CodeInsufficientCapacity, CodeInsufficientCapacity.Reason())
		b = AppendAttribute(b, AttrRealm, []byte("visavis")...)
		b = EndResponse(b, fingerprint)
		m := &stun.Message{Raw: b}
		if err := m.Decode(); err != nil || !IsSTUN(b) {
			t.Fatalf("%x: %v", b, err)
		}
		if m.Type != stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse) || m.TransactionID != request.TransactionID {
			t.Errorf("%v, want an error response to %v", m, request)
		}
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(m); err != nil || code.Code != 508 || string(code.Reason) != "Insufficient Capacity" {
			t.Errorf("code %v, %v, want 508: Insufficient Capacity", code, err)
		}
		var realm stun.Realm
		if err := realm.GetFrom(m); err != nil || realm.String() != "visavis" {
			t.Errorf("realm %q, %v", realm, err)
		}
		if err := stun.Fingerprint.Check(m); (err == nil) != fingerprint {
			t.Errorf("fingerprint wanted: %v, found: %v", fingerprint, err)
		}
		success := EndResponse(BeginSuccess(b, request.Raw), false)
		if m := (&stun.Message{Raw: success}); m.Decode() != nil ||
			m.Type != stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse) {
			t.Errorf("%x is no success response to Allocate", success)
		}
	}
}

// RFC 5769 §2.4 with a user name and password of its own: the request is taken for what it is, and its signature for a
// right one.
func TestRFC5769(t *testing.T) {
	request := []byte("\x00\x01\x00\x60\x21\x12\xa4\x42\x78\xad\x34\x33\xc6\xad\x72\xc0\x29\xda\x41\x2e" +
		"\x00\x06\x00\x12\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9\x00\x00" +
		"\x00\x15\x00\x1c\x66\x2f\x2f\x34\x39\x39\x6b\x39\x35\x34\x64\x36\x4f\x4c\x33\x34\x6f\x4c\x39\x46\x53\x54\x76\x79\x36\x34\x73\x41" +
		"\x00\x14\x00\x0b\x65\x78\x61\x6d\x70\x6c\x65\x2e\x6f\x72\x67\x00" +
		"\x00\x08\x00\x14\xf6\x70\x24\x65\x6d\xd6\x4a\x3e\x02\xb8\xe0\x71\x2e\x85\xc9\xa2\x8c\xa8\x96\x66")
	if !IsSTUN(request) || Message(request).Type() != BindingRequest {
		t.Fatal("no request")
	}
	username, _ := Message(request).Attribute(AttrUsername)
	if got := string(username); got != "マトリックス" {
		t.Errorf("user name = %q", got)
	}
	key := md5.Sum([]byte("マトリックス:example.org:TheMatrIX"))
	signedRight(t, request, key[:])

	// §2.1, §2.2, §2.3: fingerprints and addresses.
	binding := []byte("\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae" +
		"\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20" +
		"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43" +
		"\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7" +
		"\x80\x28\x00\x04\xc0\x7d\x4c\x96")
	binding6 := []byte("\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae" +
		"\x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20" +
		"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9" +
		"\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41" +
		"\x80\x28\x00\x04\xc8\xfb\x0b\x4c")
	for want, b := range map[string][]byte{"192.0.2.1:32853": binding, "[2001:db8:1234:5678:11:2233:4455:6677]:32853": binding6} {
		if present, right := Message(b).Fingerprint(); !present || !right {
			t.Errorf("%s: fingerprint is there: %v, right: %v", want, present, right)
		}
		signedRight(t, b, []byte("VOkJxbRl1RmTxUk/WvJxBt"))
		value, _ := Message(b).Attribute(AttrXORMappedAddress)
		e, ok := Message(b).XORAddress(value)
		if !ok || e.AddrPort().String() != want {
			t.Errorf("address = %v, %v, want %s", e.AddrPort(), ok, want)
		}
		again := AppendXORAddress(append([]byte(nil), b[:HeaderSize]...), AttrXORMappedAddress, &e)
		if got := again[HeaderSize+4:]; string(got) != string(value) {
			t.Errorf("%s is written as %x, want %x", want, got, value)
		}
	}
}

// signedRight checks that b is signed with key alone, and that it would be signed the same way again.
func signedRight(t *testing.T, b, key []byte) {
	t.Helper()
	integrity := NewIntegrity(key)
	signed, ok := Message(b).Signed()
	if !ok || !integrity.Verify(signed) {
		t.Fatalf("%x is not signed right", b)
	}
	if NewIntegrity([]byte("another")).Verify(signed) {
		t.Error("another key would do")
	}
	unsigned := bytes.Clone(signed[:len(signed)-integritySize])
	if again := integrity.Append(unsigned); !bytes.Equal(again[HeaderSize:], signed[HeaderSize:]) {
		t.Errorf("signed again as %x, want %x", again, signed)
	}
	for i := range signed {
		if i == 2 || i == 3 {
			continue // the length, which is that of the whole message
		}
		forged := bytes.Clone(signed)
		forged[i] ^= 1
		if integrity.Verify(forged) {
			t.Errorf("byte %d can be changed", i)
		}
	}
}

// pion/stun reads a message the same way and finds the same signatures right.
func FuzzMessage(f *testing.F) {
	key := stun.NewShortTermIntegrity("key")
	username := stun.NewUsername("anna")
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, username, key, stun.Fingerprint).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, key, username).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingSuccess, username, stun.Fingerprint).Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if !IsSTUN(b) {
			return
		}
		m := Message(b)
		theirs := &stun.Message{Raw: append(make([]byte, 0, len(b)+64), b...)}
		if err := theirs.Decode(); (err == nil) != m.WellFormed() {
			t.Fatalf("well formed: %v, %v", m.WellFormed(), err)
		} else if err != nil {
			return
		}
		if got := [12]byte(m.Transaction()); got != theirs.TransactionID || uint16(m.Type()) != theirs.Type.Value() {
			t.Errorf("type %x, transaction %x, want %v", m.Type(), got, theirs)
		}
		if m.Has(AttrMessageIntegritySHA256) {
			return // pion/stun ignores a MESSAGE-INTEGRITY that follows it
		}
		signed, ok := m.Signed()
		right := ok && NewIntegrity([]byte("key")).Verify(signed)
		if err := key.Check(theirs); (err == nil) != right {
			t.Errorf("signed: %v, signature right: %v, want %v", ok, right, err)
		}
		if !ok {
			signed = m
		}
		value, ok := signed.Attribute(AttrUsername)
		if want, err := theirs.Get(stun.AttrUsername); (err == nil) != ok || !bytes.Equal(value, want) {
			t.Errorf("user name %q, %v, want %q, %v", value, ok, want, err)
		}
	})
}
