package edge

import (
	"bytes"
	"log/slog"
	"net/http"

	"github.com/visavis/visavis/internal/panics"
)

// Where a panic of this package is counted.
const (
	inReader = "a WebSocket reader"
	inTimer  = "a connection's timer"
	inWriter = "a connection's writer"
	inHello  = "a hello"
	inHTTP   = "an HTTP request"
)

// contained returns a function that calls f and reports its panics instead of passing them on.
func (s *Server) contained(in string, f func()) func() {
	return func() { panics.Contain(s.cfg.Log, in, f) }
}

// recovering aborts a request whose handler panics, and counts the panic. net/http would recover,
// too, but not count.
func (s *Server) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler { //nolint:errorlint // a panic's value, compared as net/http does
					panics.Report(s.cfg.Log, inHTTP, p)
				}
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// httpLog receives the log lines of net/http. Lines about what clients did are logged at debug.
// Lines about panics are counted and logged as errors.
type httpLog struct{ log *slog.Logger }

// servePanic is the beginning of net/http's report of a panic. The client's address and the panic follow.
const servePanic = "http: panic serving "

// Write implements [io.Writer] for the standard library's logger.
func (l httpLog) Write(line []byte) (int, error) {
	if report, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(servePanic)); ok {
		_, panicked, _ := bytes.Cut(report, []byte(": ")) // addresses are logged at debug only
		panics.Report(l.log, inHTTP, string(panicked))
	} else {
		l.log.Debug("net/http", "report", string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}
