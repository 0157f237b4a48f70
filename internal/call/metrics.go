package call

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	ended  *prometheus.CounterVec
	panics prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Switchboard) metrics {
	m := metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_calls_ended_total", Help: "Ended calls by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "visavis_call_panics_total", Help: "Panics while doing what a call wanted.",
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.ended, m.panics,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visavis_calls_ringing", Help: "Calls that ring.",
		}, func() float64 { n, _ := s.count(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visavis_calls_active", Help: "Calls that are active.",
		}, func() float64 { _, n := s.count(); return float64(n) }))
	return m
}
