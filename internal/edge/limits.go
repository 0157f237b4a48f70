package edge

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/limit"
	"github.com/visavis/visavis/protocol"
)

// Rates of one address. An address may be an office, a school or a mobile network, so bursts are those of some
// hundred people who arrive at once. Each purpose has its own bucket: requests that a foreign page can cause in a
// visitor's browser must not close the WebSocket to that visitor.
var (
	requestRate  = limit.Rate{Every: 10 * time.Millisecond, Burst: 2000} // a first visit takes some 20
	signalRate   = limit.Rate{Every: 20 * time.Millisecond, Burst: 1000} // a restart brings everybody back in 3 s
	newcomerRate = limit.Rate{Every: 100 * time.Millisecond, Burst: 300} // hellos without a token
)

// deviceRate bounds the push subscriptions of one address. A page renews its subscription at each visit. Beyond the
// burst, one address needs eleven days to fill the outbox's limit for devices of all users.
var deviceRate = limit.Rate{Every: 10 * time.Second, Burst: 300}

// Rates of one user, whatever the address.
var (
	helloRate  = limit.Rate{Every: time.Second, Burst: 60}            // 20 tabs, three times
	recordRate = limit.Rate{Every: 500 * time.Millisecond, Burst: 60} // requests that the database answers
)

const (
	// maxSilent bounds the WebSockets of one address that have not said hello; the oldest gives way.
	maxSilent = 256
	// bodyTimeout bounds the time for the body of a request. The largest body has 128 KiB, which takes 30 s
	// at 35 kbit/s.
	bodyTimeout = 30 * time.Second
)

// limits bound what one source may do. A source is a user, or [limit.Source] of the client's address.
type limits struct {
	open        *limit.Places[everybody] // all connections
	connections *limit.Places[netip.Addr]
	silent      *limit.Places[netip.Addr] // WebSockets before hello

	requests, signals, newcomers, devices *limit.Buckets[netip.Addr]
	hellos, records                       *limit.Buckets[protocol.UserID]

	refused *prometheus.CounterVec // by limit
}

// everybody is the only key of the places that all connections share.
type everybody struct{}

func newLimits(open, connections int, reg prometheus.Registerer) *limits {
	l := &limits{
		open:        limit.NewPlaces[everybody](open),
		connections: limit.NewPlaces[netip.Addr](connections),
		silent:      limit.NewPlaces[netip.Addr](maxSilent),
		requests:    limit.NewBuckets[netip.Addr](requestRate, 0),
		signals:     limit.NewBuckets[netip.Addr](signalRate, 0),
		newcomers:   limit.NewBuckets[netip.Addr](newcomerRate, 0),
		devices:     limit.NewBuckets[netip.Addr](deviceRate, 0),
		hellos:      limit.NewBuckets[protocol.UserID](helloRate, 0),
		records:     limit.NewBuckets[protocol.UserID](recordRate, 0),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_limited_total", Help: "Connections, requests and hellos that a limit of their address or user refused or closed, by limit.",
		}, []string{"limit"}),
	}
	if reg != nil {
		reg.MustRegister(l.refused)
	}
	return l
}

// source returns the key under which limits count an address. A configured proxy's own address does not count: the
// proxy has named no client, and one limit for all its clients would lock them out together.
func (s *Server) source(addr netip.Addr) (source netip.Addr, counts bool) {
	return limit.Source(addr), !s.isProxy(addr)
}

// allow takes one token from the bucket of an address. It always allows the address of a configured proxy.
func (s *Server) allow(name string, buckets *limit.Buckets[netip.Addr], addr netip.Addr) bool {
	source, counts := s.source(addr)
	if !counts || buckets.Allow(source, time.Now()) {
		return true
	}
	s.limits.refused.WithLabelValues(name).Inc()
	return false
}

func (s *Server) allowUser(name string, buckets *limit.Buckets[protocol.UserID], user protocol.UserID) bool {
	if buckets.Allow(user, time.Now()) {
		return true
	}
	s.limits.refused.WithLabelValues(name).Inc()
	return false
}

// tooOften answers a request that exceeds a limit.
func tooOften(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	writeError(w, http.StatusTooManyRequests, protocol.Errorf(protocol.CodeRateLimited, "too many of these; wait and try again"))
}

// bounded limits the number of requests of an address and the time for each body. The deadline also covers handlers
// that read no body: net/http reads the body after the answer, without a deadline of its own.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
		}
		buckets, name := s.limits.requests, "requests"
		if r.URL.Path == signalPath {
			buckets, name = s.limits.signals, "signals"
		}
		switch {
		case isEmbedded(r) && !s.origins.allow(r):
			// Before the buckets: a page that does this in a visitor's browser must not exhaust the visitor's own.
			writeError(w, http.StatusForbidden, protocol.Errorf(protocol.CodeUnauthorized, "pages of other sites may not load this"))
		case !s.allow(name, buckets, s.clientAddr(r)):
			tooOften(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// holdConnection counts the connection of a request that becomes a WebSocket as long as it stands, and keeps it from
// giving way to newer ones. Behind a proxy it counts for the client that the proxy names. It reports whether there is
// room.
func (s *Server) holdConnection(r *http.Request) bool {
	o, ok := r.Context().Value(clientConnKey{}).(*clientConn)
	if !ok {
		return true // no TCP
	}
	addr := s.clientAddr(r)
	source, counts := s.source(addr)
	if counts && addr != peerAddr(r) && !s.limits.connections.Enter(source, &o.place, o) {
		s.limits.refused.WithLabelValues("connections").Inc()
		return false
	}
	s.limits.connections.Settle(&o.place)
	s.limits.open.Settle(&o.among)
	return true
}

// peerAddr is the address of the other end of a request's connection, which may be a proxy.
func peerAddr(r *http.Request) netip.Addr {
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	return from.Addr().Unmap()
}

// signalPath is where clients open a WebSocket.
const signalPath = "/v1/signal"

// tooManyHere closes a connection that gave way to a newer one of its address.
const tooManyHere = "newer connections of this address took its place"
