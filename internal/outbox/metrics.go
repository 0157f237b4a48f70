package outbox

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Why a push was refused by its push service, or by us.
const (
	refusedGone    = "gone"     // the device is no longer subscribed
	refusedService = "service"  // its push service is not on the list
	refusedOther   = "rejected" // the push service refuses the message
)

// Why a push was not sent.
const (
	droppedFull    = "full"    // too many waited
	droppedExpired = "expired" // the ring was over
	droppedStopped = "stopped" // the server stopped
	droppedPanic   = "panic"   // the code that sends it panicked
)

type metrics struct {
	sent, retried    prometheus.Counter
	refused, dropped *prometheus.CounterVec
}

// newMetrics registers the metrics of the outbox. If reg is nil, they count all the same.
func newMetrics(reg prometheus.Registerer, devices func() int) metrics {
	make := promauto.With(reg)
	make.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "visavis_push_devices", Help: "Devices that can be pushed.",
	}, func() float64 { return float64(devices()) })
	return metrics{
		sent: make.NewCounter(prometheus.CounterOpts{
			Name: "visavis_pushes_sent_total", Help: "Pushes that a push service has taken.",
		}),
		retried: make.NewCounter(prometheus.CounterOpts{
			Name: "visavis_pushes_retried_total", Help: "Pushes that failed and are tried again.",
		}),
		refused: make.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_pushes_refused_total", Help: "Pushes that were refused, by cause.",
		}, []string{"cause"}),
		dropped: make.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_pushes_dropped_total", Help: "Pushes that were never sent, by cause.",
		}, []string{"cause"}),
	}
}
