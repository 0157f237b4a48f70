package store

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the counters of the package.
type metrics struct {
	written, lost, failures, endLogFailures prometheus.Counter
}

// newMetrics registers the counters. If reg is nil, they count all the same.
func newMetrics(reg prometheus.Registerer) metrics {
	make := promauto.With(reg)
	return metrics{
		written: make.NewCounter(prometheus.CounterOpts{
			Name: "visavis_store_records_written_total",
			Help: "Call records that were written.",
		}),
		lost: make.NewCounter(prometheus.CounterOpts{
			Name: "visavis_store_records_lost_total",
			Help: "Call records that were lost because too many waited or the server stopped.",
		}),
		failures: make.NewCounter(prometheus.CounterOpts{
			Name: "visavis_store_write_failures_total",
			Help: "Writes of call records that failed and were tried again.",
		}),
		endLogFailures: make.NewCounter(prometheus.CounterOpts{
			Name: "visavis_store_end_log_failures_total",
			Help: "Ends of calls that the log of ended calls did not take at once.",
		}),
	}
}

// registerWaiting registers the gauge of how many records are not yet written.
func registerWaiting(reg prometheus.Registerer, waiting func() int) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "visavis_store_records_waiting",
		Help: "Call records that are not yet written.",
	}, func() float64 { return float64(waiting()) })
}
