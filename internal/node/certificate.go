package node

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/visavis/visavis/internal/certificate"
)

// openCertificate reads or makes the certificate of a valid configuration; it is nil without TLS.
func openCertificate(cfg Config) (*certificate.Source, error) {
	switch cfg.TLS.Mode {
	case TLSFiles:
		return certificate.FromFiles(cfg.TLS.Cert, cfg.TLS.Key)
	case TLSSelfSigned:
		return certificate.SelfSigned(filepath.Join(cfg.Data, "tls"), lanAddresses)
	}
	return nil, nil
}

// getCertificate is what listeners ask for each handshake; it is nil without TLS.
func getCertificate(source *certificate.Source) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if source == nil {
		return nil
	}
	return source.GetCertificate
}

// hangups gets a SIGHUP instead of the process, which it would end.
func hangups() chan os.Signal {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	return asked
}

// certificatePart has the certificate read again at each SIGHUP. From now on SIGHUP does not end the process.
func certificatePart(source *certificate.Source, stops place, log *slog.Logger) part {
	asked := hangups()
	return part{name: "certificate", stops: stops, run: func(ctx context.Context) error {
		return reloadCertificate(ctx, source, asked, log)
	}}
}

// reloadCertificate has the certificate read again at each of these hangups, until ctx is done.
func reloadCertificate(ctx context.Context, source *certificate.Source, asked chan os.Signal, log *slog.Logger) error {
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-asked:
		}
		if source == nil {
			log.Info("SIGHUP: there is no certificate to read again; other settings take a restart")
			continue
		}
		if err := source.Reload(); err != nil {
			log.Error("SIGHUP: the certificate in use stays", "error", err)
			continue
		}
		log.Info("SIGHUP: the certificate was read again; other settings take a restart", "expires", source.Expires())
	}
}
