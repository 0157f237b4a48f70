package outbox

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// DefaultServices are the push services of the browsers: Chrome and those made of
// it (Chromium as Linux distributions build it comes to jmt17), Firefox, Safari, Edge.
func DefaultServices() []string {
	return []string{
		"fcm.googleapis.com", "jmt17.google.com",
		"updates.push.services.mozilla.com", "*.push.services.mozilla.com",
		"*.push.apple.com",
		"*.notify.windows.com",
	}
}

// service is a push service that may be sent to. The endpoint is a URL that a
// client chose: without this list anyone could have the server ask its own network.
type service struct {
	host   string // in lower case; below it, when it begins with a point
	origin string // exact, in the place of host
	// slots are taken by the requests under way.
	slots chan struct{}
}

// CheckService refuses an entry of [Config].Services that is neither a host, nor *.
// and a domain, nor an origin.
func CheckService(entry string) error {
	_, err := parseService(entry)
	return err
}

func parseServices(entries []string) ([]*service, error) {
	var all []*service
	for _, entry := range entries {
		s, err := parseService(entry)
		if err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseService(entry string) (*service, error) {
	s := &service{slots: make(chan struct{}, perService)}
	if strings.Contains(entry, "://") {
		u, err := url.Parse(entry)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || originOf(u) != strings.ToLower(strings.TrimSuffix(entry, "/")) {
			return nil, fmt.Errorf("%q is no origin", entry)
		}
		s.origin = originOf(u)
		return s, nil
	}
	s.host = strings.ToLower(strings.TrimPrefix(entry, "*"))
	name := strings.TrimPrefix(s.host, ".")
	wild := strings.HasPrefix(entry, "*.")
	if name == "" || !strings.Contains(name, ".") || strings.ContainsAny(name, "*/:@?# ") || net.ParseIP(name) != nil ||
		wild != strings.HasPrefix(s.host, ".") || strings.HasPrefix(entry, "*") != wild {
		return nil, fmt.Errorf("%q is neither a host, nor *. and a domain, nor an origin", entry)
	}
	return s, nil
}

// serviceOf is the push service of an endpoint, or nil where none may be sent to.
func (o *Outbox) serviceOf(endpoint string) *service {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil
	}
	for _, s := range o.services {
		if s.has(u) {
			return s
		}
	}
	return nil
}

func (s *service) has(u *url.URL) bool {
	if s.origin != "" {
		return originOf(u) == s.origin
	}
	if u.Scheme != "https" || u.Port() != "" && u.Port() != "443" {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if strings.HasPrefix(s.host, ".") {
		return strings.HasSuffix(host, s.host) && len(host) > len(s.host)
	}
	return host == s.host
}

// originOf is the origin of a URL (RFC 6454 §6.2), which is also the audience of
// what we sign for its host (RFC 8292 §2).
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host
}
