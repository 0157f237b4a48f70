// Package certificate is where the server's certificate comes from: PEM files, or a self-signed one that it makes and
// keeps. A [Source] hands out the certificate in use, for HTTPS and for TURN over TLS alike.
//
// It listens to no signal and no socket. Whoever wants the files read again calls [Source.Reload].
//
// Come in at [FromFiles] or [SelfSigned], and give [Source.GetCertificate] to a [tls.Config].
package certificate

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"
)

// A Source hands out a certificate. Its methods may be called by any goroutine.
type Source struct {
	read    func() (tls.Certificate, error)
	current atomic.Pointer[tls.Certificate] // the one in use; replaced as a whole
}

// FromFiles is a source that reads a certificate with its chain from one PEM file, and its key from another one. It
// fails if they cannot be read or do not belong together.
func FromFiles(cert, key string) (*Source, error) {
	return open(func() (tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return pair, fmt.Errorf("read the certificate: %w", err)
		}
		return pair, nil
	})
}

func open(read func() (tls.Certificate, error)) (*Source, error) {
	s := &Source{read: read}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the certificate again; the next handshake has it. If that fails, the one in use stays.
func (s *Source) Reload() error {
	pair, err := s.read()
	if err != nil {
		return err
	}
	s.current.Store(&pair)
	return nil
}

// GetCertificate is the certificate in use, for [tls.Config.GetCertificate]. It neither fails nor looks at the
// handshake, which may be nil.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

// Names are the DNS names and IP addresses that the certificate in use is for.
func (s *Source) Names() []string {
	leaf := s.current.Load().Leaf
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Expires is until when the certificate in use is valid.
func (s *Source) Expires() time.Time { return s.current.Load().Leaf.NotAfter }
