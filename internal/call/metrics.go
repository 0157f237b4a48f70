package call

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	ended *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Switchboard) metrics {
	m := metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_calls_ended_total", Help: "Ended calls by reason.",
		}, []string{"reason"}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.ended,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visavis_calls_ringing", Help: "Calls that ring.",
		}, func() float64 { n, _ := s.count(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visavis_calls_active", Help: "Calls that are active.",
		}, func() float64 { _, n := s.count(); return float64(n) }))
	return m
}
