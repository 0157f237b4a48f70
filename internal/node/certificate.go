package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/visavis/visavis/internal/edge"
)

// certificate is the one in use, for HTTPS and for TURN over TLS. Its files are read
// again when the process gets SIGHUP, and the next handshake has what they are then.
type certificate struct {
	read    func() (*tls.Certificate, error) // nil without TLS
	current atomic.Pointer[tls.Certificate]
}

// openCertificate reads or makes the certificate of a valid configuration.
func openCertificate(cfg Config) (*certificate, error) {
	c := &certificate{}
	switch cfg.TLS.Mode {
	case TLSFiles:
		c.read = func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
			if err != nil {
				return nil, fmt.Errorf("read the certificate: %w", err)
			}
			return &pair, nil
		}
	case TLSSelfSigned:
		c.read = func() (*tls.Certificate, error) {
			pair, err := edge.SelfSigned(filepath.Join(cfg.Data, "tls"), time.Now())
			if err != nil {
				return nil, fmt.Errorf("make a certificate: %w", err)
			}
			return &pair, nil
		}
	default:
		return c, nil
	}
	return c, c.reload()
}

// reload reads the certificate. One that cannot be read leaves the one in use.
func (c *certificate) reload() error {
	pair, err := c.read()
	if err == nil {
		c.current.Store(pair)
	}
	return err
}

// source hands out the certificate in use for each handshake; nil without TLS.
func (c *certificate) source() func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.read == nil {
		return nil
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
}

// hangups gets a SIGHUP instead of the process, which it would end.
func hangups() chan os.Signal {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return asked
}

// run reads the certificate again at each of these hangups, until ctx is done.
func (c *certificate) run(ctx context.Context, asked chan os.Signal, log *slog.Logger) error {
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-asked:
		}
		if c.read == nil {
			log.Info("SIGHUP: there is no certificate to read again; other settings take a restart")
			continue
		}
		if err := c.reload(); err != nil {
			log.Error("SIGHUP: the certificate in use stays", "error", err)
			continue
		}
		log.Info("SIGHUP: the certificate was read again; other settings take a restart",
			"expires", c.current.Load().Leaf.NotAfter)
	}
}
