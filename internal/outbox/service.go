package outbox

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// DefaultServices returns the push services of Chrome and the browsers made from it, Firefox, Safari and Edge. Chromium
// as Linux distributions build it uses jmt17.google.com.
func DefaultServices() []string {
	return []string{
		"fcm.googleapis.com", "jmt17.google.com",
		"updates.push.services.mozilla.com", "*.push.services.mozilla.com",
		"*.push.apple.com",
		"*.notify.windows.com",
	}
}

// service is a push service that the outbox sends to. A client chooses the URL of an endpoint. Without the list of
// services, anybody could make the server send requests into its own network.
type service struct {
	host   string        // in lower case; if it begins with a dot, all hosts of that domain
	origin string        // if not empty, exactly this origin, and host is empty
	slots  chan struct{} // has one element for each request under way
}

// CheckService returns an error if an entry of [Config].Services is neither a host, nor *. and a domain, nor an origin.
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

// serviceOf returns the push service of an endpoint, or nil if it belongs to none of [Config].Services.
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

// has reports whether a URL leads to this service.
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

// originOf returns the origin of a URL (RFC 6454 §6.2). It is also the audience of our signatures for its host
// (RFC 8292 §2).
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host
}
