package certificate

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// selfSignedFile holds key and certificate together, so that no crash can part
	// them.
	selfSignedFile = "self-signed.pem"
	// selfSignedAge is the longest that browsers take (CA/Browser Forum's 398 days,
	// less one for clocks), renewBefore when a new one is made.
	selfSignedAge = 397 * 24 * time.Hour
	renewBefore   = 30 * 24 * time.Hour
)

// SelfSigned is a source of a certificate that is kept in dir, for localhost, this machine's name and its addresses: those
// that local tells, and loopback. The source makes a new certificate if there is none, if it lacks the name or an address,
// or if less than 30 days are left. Browsers then ask again whether to trust it.
func SelfSigned(dir string, local func() []netip.Addr) (*Source, error) {
	return open(func() (tls.Certificate, error) {
		addresses := append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, local()...)
		pair, err := selfSigned(dir, time.Now(), machineNames(), addresses)
		if err != nil {
			return pair, fmt.Errorf("make a certificate: %w", err)
		}
		return pair, nil
	})
}

// machineNames are localhost and the name of this machine, if it has one.
func machineNames() []string {
	names := []string{"localhost"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	return names
}

// selfSigned is the certificate kept in dir if it can be used on, else a new one.
func selfSigned(dir string, now time.Time, names []string, addresses []netip.Addr) (tls.Certificate, error) {
	file := filepath.Join(dir, selfSignedFile)
	kept, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return tls.Certificate{}, err
	}
	if certificate, err := tls.X509KeyPair(kept, kept); err == nil && good(certificate.Leaf, now, names, addresses) {
		return certificate, nil
	}
	fresh, err := makeSelfSigned(now, names, addresses)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := keep(file, fresh); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(fresh, fresh)
}

// good reports whether a kept certificate can be used on.
func good(leaf *x509.Certificate, now time.Time, names []string, addresses []netip.Addr) bool {
	if now.Before(leaf.NotBefore) || now.Add(renewBefore).After(leaf.NotAfter) {
		return false
	}
	for _, name := range names {
		if !slices.Contains(leaf.DNSNames, name) {
			return false
		}
	}
	for _, address := range addresses {
		if !slices.ContainsFunc(leaf.IPAddresses, net.IP(address.AsSlice()).Equal) {
			return false
		}
	}
	return true
}

// makeSelfSigned is a new key and its certificate, in PEM.
func makeSelfSigned(now time.Time, names []string, addresses []netip.Addr) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // RFC 5280 §4.1.2.2
	if err != nil {
		return nil, err
	}
	begin := now.Add(-time.Hour).UTC() // for clocks that are behind
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Visavis on " + names[len(names)-1]},
		NotBefore:             begin,
		NotAfter:              begin.Add(selfSignedAge),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, // of a server, not of an authority: Firefox refuses the mixture
		DNSNames:              names,
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, address.AsSlice())
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, block := range []*pem.Block{
		{Type: "PRIVATE KEY", Bytes: private},
		{Type: "CERTIFICATE", Bytes: certificate},
	} {
		if err := pem.Encode(&text, block); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// keep replaces the file as a whole; nobody else may read it.
func keep(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(file), selfSignedFile+".*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = fresh.Write(text)
	err = cmp.Or(err, fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), file)
	}
	if err != nil {
		os.Remove(fresh.Name())
		return fmt.Errorf("keep %s: %w", file, err)
	}
	return nil
}
