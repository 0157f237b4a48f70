// Package panics keeps a panic to the goroutine of the client, call or packet that caused it. A goroutine that acts on
// what a stranger sends defers [Recover] or runs its work in [Contain]: a panic is then logged as an error with its
// stack, counted, and ends that work alone.
//
// The count is the process's, as a panic is: one metric for all packages, which the node registers ([Collector]).
//
// A recovered panic must not leave a lock held. Code that runs under Recover releases its locks by defer, or calls
// nothing between lock and unlock that could panic.
package panics

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	mu     sync.Mutex
	counts = map[string]int{} // guarded by mu
)

// Recover recovers from a panic, logs and counts it as one in what, a constant of few words. After that it calls then,
// each of which may panic itself without harm. It must be deferred directly:
//
//	defer panics.Recover(log, "hello", func() { conn.Close() })
func Recover(log *slog.Logger, in string, then ...func()) {
	p := recover()
	if p == nil {
		return
	}
	Report(log, in, p)
	for _, f := range then {
		Contain(log, in, f)
	}
}

// Contain runs f, and reports whether f came to its end. Otherwise the panic was logged and counted.
func Contain(log *slog.Logger, in string, f func()) (ok bool) {
	defer Recover(log, in)
	f()
	return true
}

// Report logs and counts a panic that the caller, a deferred function, has recovered from: p is what recover returned.
// Without a log it takes the default one.
func Report(log *slog.Logger, in string, p any) {
	mu.Lock()
	counts[in]++
	mu.Unlock()
	if log == nil {
		log = slog.Default()
	}
	log.Error("panic", "in", in, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// Count returns how many panics there were in what, in the life of this process.
func Count(in string) int {
	mu.Lock()
	defer mu.Unlock()
	return counts[in]
}

// Collector returns the metric visavis_panics_total. All collectors tell the same.
func Collector() prometheus.Collector { return collector{} }

type collector struct{}

var total = prometheus.NewDesc("visavis_panics_total",
	"Panics that were kept to the connection, call or packet that caused them.", []string{"in"}, nil)

// Describe implements [prometheus.Collector].
func (collector) Describe(ch chan<- *prometheus.Desc) { ch <- total }

// Collect implements [prometheus.Collector].
func (collector) Collect(ch chan<- prometheus.Metric) {
	mu.Lock()
	defer mu.Unlock()
	for in, n := range counts {
		ch <- prometheus.MustNewConstMetric(total, prometheus.CounterValue, float64(n), in)
	}
}
