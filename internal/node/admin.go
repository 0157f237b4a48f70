package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/visavis/visavis/internal/edge"
	"github.com/visavis/visavis/internal/panics"
)

// Admin is the listener for the operator: metrics and profiles, which strangers must
// not read, because they tell who talks how much and when.
type Admin struct {
	// Listen is usually on loopback: it asks for no password. Default: none, and then
	// there is no such listener.
	Listen Address
}

// An httpServer answers an operator's requests.
type httpServer struct {
	purpose  string // for errors
	listener net.Listener
	http     *http.Server
}

// newRegistry has the metrics of the process.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), panics.Collector())
	return registry
}

// openAdmin opens the admin listener; it is nil without an address.
func openAdmin(at Address, registry *prometheus.Registry) (*httpServer, error) {
	if !at.IsValid() {
		return nil, nil
	}
	listener, err := listen("metrics", at)
	if err != nil {
		return nil, err
	}
	return newAdmin(listener, registry), nil
}

// newAdmin serves GET /metrics, GET /healthz and /debug/pprof/.
func newAdmin(listener net.Listener, registry *prometheus.Registry) *httpServer {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	// Neither cmdline, which would show a database's password, nor symbol: go tool pprof needs none.
	var handler http.Handler = mux
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		// A page in the operator's browser could reach it under a name that resolves to loopback.
		handler = edge.KnownHosts(mux)
	}
	// Without a time-out for writing: a profile takes as long as it is asked to.
	return &httpServer{"metrics", listener, &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}}
}

func healthz(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// url is where it is; nothing when there is none.
func (s *httpServer) url() string {
	if s == nil {
		return ""
	}
	return "http://" + s.listener.Addr().String()
}

// Run serves until ctx is done, and closes the listener.
func (s *httpServer) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve %s: %w", s.purpose, err)
	case <-ctx.Done():
	}
	err := s.http.Close()
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// AdminURL is where metrics and profiles are; nothing when [Admin.Listen] is empty.
func (n *Node) AdminURL() string { return n.admin.url() }
