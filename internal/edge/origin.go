package edge

import (
	"crypto/x509"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/visavis/visavis/protocol"
)

// origins are the origins whose pages may connect. The Host header counts only if its
// name is known to belong to this server. Otherwise a foreign name that resolves to
// this server (DNS rebinding) would be accepted.
type origins struct {
	listed   map[string]bool
	loopback bool              // we listen on loopback only
	leaf     *x509.Certificate // whose names are ours; nil without TLS
}

func newOrigins(listed []string, addr net.Addr, leaf *x509.Certificate) origins {
	o := origins{listed: map[string]bool{}, leaf: leaf}
	for _, l := range listed {
		o.listed[strings.ToLower(strings.TrimSuffix(l, "/"))] = true
	}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		o.loopback = tcp.IP.IsLoopback()
	}
	return o
}

// allow reports whether a request may open a connection. One without Origin
// comes from no browser, from a page of ours, or from something that a page of
// another site shows, such as an image.
func (o origins) allow(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return ofOwnPage(r)
	}
	if o.listed[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	if o.loopback {
		// Any port: a developer's own page is served from another one.
		return isLoopbackName(u.Hostname())
	}
	return o.leaf != nil && u.Scheme == "https" && strings.EqualFold(u.Host, r.Host) &&
		o.leaf.VerifyHostname(u.Hostname()) == nil
}

// isEmbedded reports whether a page of another site loads this as a part of itself, such as an image (Fetch Metadata,
// W3C). It reports false for browsers that do not send Sec-Fetch headers.
func isEmbedded(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// ofOwnPage reports whether a request without an Origin can come from a page of ours, or from no browser. Browsers leave
// Origin away in GET requests of a page to its own origin and in those that load an image, script or frame.
func ofOwnPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// methods maps the methods of a route to handlers. GET includes HEAD.
type methods map[string]http.HandlerFunc

// names returns the methods as a comma-separated header value.
func (m methods) names() string {
	all := slices.Sorted(maps.Keys(m))
	if m[http.MethodGet] != nil {
		all = append(all, http.MethodHead)
	}
	return strings.Join(append(all, http.MethodOptions), ", ")
}

// crossOrigin lets pages of the allowed origins send requests (Fetch, CORS protocol).
// They may send a token, but no cookies.
func (s *Server) crossOrigin(m methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" && s.origins.allow(r) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			w.Header().Set("Access-Control-Allow-Methods", m.names())
			w.Header().Set("Access-Control-Max-Age", "3600")
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		switch handle := m[method]; {
		case handle != nil:
			handle(w, r)
		case r.Method == http.MethodOptions:
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Header().Set("Allow", m.names())
			writeError(w, http.StatusMethodNotAllowed, protocol.Errorf(protocol.CodeNotFound, "there is only "+m.names()+" here"))
		}
	})
}

func isLoopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
