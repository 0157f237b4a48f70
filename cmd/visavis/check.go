package main

import (
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/visavis/visavis/internal/certificate"
	"github.com/visavis/visavis/internal/node"
)

// check tells what would run with a configuration that is valid.
func check(cfg node.Config, file string, stdout io.Writer) error {
	certificate, err := describeCertificate(cfg)
	if err != nil {
		return err
	}
	if file == "" {
		file = "no file"
	}
	scheme := "http://"
	if cfg.TLS.Mode != node.TLSOff {
		scheme = "https://"
	}
	told, err := cfg.Relay.PlannedURLs()
	if err != nil {
		return err
	}
	var origins []string
	for _, u := range cfg.Origins {
		origins = append(origins, u.String())
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"configuration", file},
		{"listen", scheme + cfg.Listen.String()},
		{"access", cfg.Access},
		{"origins", strings.Join(origins, ", ")},
		{"certificate", certificate},
		{"relay", describeRelay(cfg.Relay)},
		{"clients are told", strings.Join(told, " ")},
		{"database", describeDatabase(cfg)},
		{"ring time", fmt.Sprintf("%d s", cfg.Call.RingTime/time.Second)},
	} {
		if row[1] != "" {
			fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, warning := range cfg.Warnings() {
		fmt.Fprintln(stdout, "warning:", warning)
	}
	return nil
}

func describeRelay(r node.Relay) string {
	if !r.Enabled {
		return "off"
	}
	return fmt.Sprintf("%s on UDP and TCP, media on ports %d to %d", r.Listen, r.MinPort, r.MaxPort)
}

// describeDatabase names it without password.
func describeDatabase(cfg node.Config) string {
	text := cfg.DatabaseURL()
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok {
		return "SQLite in " + path
	}
	u, err := url.Parse(text)
	if err != nil {
		return "PostgreSQL" // unreachable: Validate has parsed it
	}
	return "PostgreSQL at " + u.Host + u.Path
}

// describeCertificate reads the certificate files, so that a wrong one is found
// before the server stops for it.
func describeCertificate(cfg node.Config) (string, error) {
	switch cfg.TLS.Mode {
	case node.TLSSelfSigned:
		return "self-signed, kept in " + filepath.Join(cfg.Data, "tls"), nil
	case node.TLSFiles:
		source, err := certificate.FromFiles(cfg.TLS.Cert, cfg.TLS.Key)
		if err != nil {
			return "", err
		}
		until := source.Expires()
		if time.Now().After(until) {
			return "", fmt.Errorf("the certificate %s has expired on %s", cfg.TLS.Cert, until.Format(time.DateOnly))
		}
		return fmt.Sprintf("%s for %s, until %s", cfg.TLS.Cert, strings.Join(source.Names(), ", "), until.Format(time.DateOnly)), nil
	}
	return "none: plain HTTP", nil
}
