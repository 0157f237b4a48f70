package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var selfSignedNoon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestSelfSignedCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "tls")
	local := addresses("192.168.1.20", "2001:db8:1::7")
	source, err := SelfSigned(dir, func() []netip.Addr { return local })
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf := c.Leaf
	for _, name := range append([]string{"localhost", "127.0.0.1", "::1"}, texts(local)...) {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if age := leaf.NotAfter.Sub(leaf.NotBefore); age > 397*24*time.Hour {
		t.Errorf("good for %v, want 397 days at most", age)
	}
	if key, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("key is %T, want ECDSA P-256", c.PrivateKey)
	}
	if leaf.IsCA {
		t.Error("the certificate is one of an authority")
	}
	for name, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, selfSignedFile): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, error %v; want %o", name, info.Mode(), err, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files, error %v; want the certificate alone", len(left), err)
	}
}

func TestSelfSignedIsRenewed(t *testing.T) {
	names := []string{"localhost", "den"}
	home := addresses("127.0.0.1", "::1", "192.168.1.20")
	for _, c := range []struct {
		what      string
		after     time.Duration
		names     []string
		addresses []netip.Addr
		damage    bool
		renewed   bool
	}{
		{what: "nothing changed", names: names, addresses: home},
		{what: "a year passed", after: 365 * 24 * time.Hour, names: names, addresses: home},
		{what: "29 days are left", after: 368 * 24 * time.Hour, names: names, addresses: home, renewed: true},
		{what: "the clock went back", after: -48 * time.Hour, names: names, addresses: home, renewed: true},
		{what: "an address went", names: names, addresses: home[:2]},
		{what: "an address came", names: names, addresses: append(addresses("10.0.0.5"), home...), renewed: true},
		{what: "another name", names: []string{"localhost", "attic"}, addresses: home, renewed: true},
		{what: "a damaged file", names: names, addresses: home, damage: true, renewed: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			first, err := selfSigned(dir, selfSignedNoon, names, home)
			if err != nil {
				t.Fatal(err)
			}
			if c.damage {
				if err := os.WriteFile(filepath.Join(dir, selfSignedFile), []byte("half a f"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			now := selfSignedNoon.Add(c.after)
			second, err := selfSigned(dir, now, c.names, c.addresses)
			if err != nil {
				t.Fatal(err)
			}
			if got := !bytes.Equal(first.Certificate[0], second.Certificate[0]); got != c.renewed {
				t.Errorf("renewed: %t, want %t", got, c.renewed)
			}
			third, err := selfSigned(dir, now, c.names, c.addresses)
			if err != nil || !bytes.Equal(second.Certificate[0], third.Certificate[0]) {
				t.Errorf("not kept (error %v)", err)
			}
		})
	}
}

func TestSelfSignedServes(t *testing.T) {
	c, err := selfSigned(t.TempDir(), time.Now(), []string{"localhost"}, addresses("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	served := make(chan error, 1)
	go func() {
		served <- tls.Server(far, &tls.Config{Certificates: []tls.Certificate{c}}).HandshakeContext(t.Context())
	}()
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	if err := errors.Join(client.HandshakeContext(t.Context()), <-served); err != nil {
		t.Fatal(err)
	}
	if err := client.ConnectionState().PeerCertificates[0].VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
}

func TestSelfSignedNeedsAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned(filepath.Join(file, "tls"), func() []netip.Addr { return nil }); err == nil {
		t.Error("a certificate was kept below a file")
	}
}

func texts(all []netip.Addr) []string {
	var names []string
	for _, a := range all {
		names = append(names, a.String())
	}
	return names
}
