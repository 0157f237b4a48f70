package certificate

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// write makes a certificate for a name, and writes it and its key to two files.
func write(t *testing.T, cert, key, name string) {
	t.Helper()
	both, err := makeSelfSigned(time.Now(), []string{name}, addresses("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{cert, key} {
		if err := os.WriteFile(file, both, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The files are read again when that is asked for, and only then. Files that cannot be read leave the certificate in use.
func TestFilesAreReadAgain(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	write(t, cert, key, "first.example.org")
	source, err := FromFiles(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	shows := func(name string) {
		t.Helper()
		if got, want := source.Names(), []string{name, "127.0.0.1"}; !slices.Equal(got, want) {
			t.Errorf("it is for %v, want %v", got, want)
		}
		pair, err := source.GetCertificate(nil)
		if err != nil || !pair.Leaf.NotAfter.Equal(source.Expires()) || pair.Leaf.VerifyHostname(name) != nil {
			t.Errorf("a handshake gets %v, error %v; want %s", pair.Leaf.DNSNames, err, name)
		}
	}
	shows("first.example.org")
	write(t, cert, key, "second.example.org")
	shows("first.example.org")
	if err := source.Reload(); err != nil {
		t.Error(err)
	}
	shows("second.example.org")
	if err := os.WriteFile(cert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := source.Reload(); err == nil {
		t.Error("a file without a certificate was read")
	}
	shows("second.example.org")
}

func TestWrongFiles(t *testing.T) {
	folder := t.TempDir()
	cert, key, other := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"), filepath.Join(folder, "other.pem")
	write(t, cert, key, "one.example.org")
	write(t, other, other, "other.example.org")
	if _, err := FromFiles(cert, filepath.Join(folder, "missing.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
	if _, err := FromFiles(cert, other); err == nil {
		t.Error("the key of another certificate was taken")
	}
}

// A self-signed certificate that is read again has the addresses that the machine has by then.
func TestSelfSignedFollowsTheMachine(t *testing.T) {
	local := addresses("192.168.1.20")
	source, err := SelfSigned(t.TempDir(), func() []netip.Addr { return local })
	if err != nil {
		t.Fatal(err)
	}
	first, _ := source.GetCertificate(new(tls.ClientHelloInfo))
	local = addresses("10.0.0.5")
	if err := source.Reload(); err != nil {
		t.Fatal(err)
	}
	second, _ := source.GetCertificate(new(tls.ClientHelloInfo))
	if first == second || !slices.Contains(source.Names(), "10.0.0.5") {
		t.Errorf("it is for %v, want 10.0.0.5 among them", source.Names())
	}
}
