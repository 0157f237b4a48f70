package edge

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/visavis/visavis/protocol"
)

// KnownHosts lets through requests whose Host is one of names, localhost or an IP
// address. It answers any other with 421 (RFC 9110 §15.5.20).
//
// This prevents DNS rebinding. If evil.example resolves to this server, a browser treats
// a page of evil.example and the server as one origin, even if only this machine or
// the local network can reach the server. Requests of that page carry Host: evil.example.
// An IP address is safe: a page with that host came from that address. localhost is
// safe, because browsers do not look it up.
func KnownHosts(next http.Handler, names ...string) http.Handler {
	known := map[string]bool{"localhost": true}
	for _, name := range names {
		known[hostName(name)] = true
	}
	return knownHosts(next, func(host string) bool { return known[host] }, func(string) {})
}

// knownHosts is [KnownHosts] with a function that decides. It calls refused with each host that it refuses.
func knownHosts(next http.Handler, known func(host string) bool, refused func(host string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostName(r.Host)
		// No browser leaves Host out; HTTP/1.0 health checks do.
		if _, err := netip.ParseAddr(host); err == nil || host == "" || known(host) {
			next.ServeHTTP(w, r)
			return
		}
		refused(host)
		writeError(w, http.StatusMisdirectedRequest, protocol.Errorf(protocol.CodeNotFound,
			"this server does not answer to the name "+host+"; its operator can list it in origins"))
	})
}

// hostName returns a Host header in lower case, without port, brackets and final dot.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// knows reports whether a name belongs to this server: localhost, a name of a listed
// origin, or a name in the certificate.
func (o origins) knows(host string) bool {
	if host == "localhost" || o.leaf != nil && o.leaf.VerifyHostname(host) == nil {
		return true
	}
	for origin := range o.listed {
		if u, err := url.Parse(origin); err == nil && hostName(u.Host) == host {
			return true
		}
	}
	return false
}

// warnOfHost logs a warning for the first refused host. A misconfigured proxy may send its
// own name instead of the client's Host.
func warnOfHost(log *slog.Logger) func(host string) {
	var once sync.Once
	return func(host string) {
		once.Do(func() {
			log.Warn("a request for a host that is not ours is refused; where a proxy sends it, let it pass on Host, or list the host in origins",
				"host", host)
		})
	}
}
