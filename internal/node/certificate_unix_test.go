//go:build unix

package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/node/nodetest"
)

// writeCertificate writes a certificate of that serial number, and its key.
func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serialAt is the serial number of the certificate that a server shows.
func serialAt(t *testing.T, address string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test looks at it itself
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestHangupReadsTheCertificateAgain: SIGHUP ends nothing. A certificate that was renewed
// is shown from the next handshake on, on HTTPS and TURN alike, and one that cannot be
// read leaves the one in use.
func TestHangupReadsTheCertificateAgain(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	writeCertificate(t, cert, key, 1)
	turns, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	relayAt := turns.Addr().String()
	_ = turns.Close()
	server := nodetest.Start(t, func(cfg *node.Config) {
		cfg.TLS = node.TLS{Mode: node.TLSFiles, Cert: cert, Key: key}
		cfg.Relay.TLSListen, cfg.Relay.TLSName = node.MustParseAddress(relayAt), "localhost"
	})
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	httpsAt := "127.0.0.1:" + u.Port()
	shows := func(want int64) {
		t.Helper()
		eventually(t, "the certificate is shown", func() bool {
			return serialAt(t, httpsAt) == want && serialAt(t, relayAt) == want
		})
	}
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	shows(1)
	writeCertificate(t, cert, key, 2)
	hangup()
	shows(2)
	if err := os.WriteFile(cert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangup()
	hangup()
	shows(2)
}
