package hub

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	received, refused, closed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, h *Hub) metrics {
	m := metrics{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_messages_received_total", Help: "Messages of clients by type.",
		}, []string{"type"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_messages_refused_total", Help: "Messages of clients that were refused, by code.",
		}, []string{"code"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "visavis_connections_dropped_total", Help: "Connections that the server closed, by reason.",
		}, []string{"reason"}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.received, m.refused, m.closed,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visavis_sessions", Help: "Sessions, connected or within their resume window.",
		}, func() float64 { n, _ := h.count(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "visavis_connections", Help: "Sessions that have a connection.",
		}, func() float64 { _, n := h.count(); return float64(n) }))
	return m
}

func (h *Hub) count() (sessions, connected int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions), len(h.sessions) - h.away.len()
}
