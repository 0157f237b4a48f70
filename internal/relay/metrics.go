package relay

import "github.com/prometheus/client_golang/prometheus"

// Causes of refusal, as the metric names them.
const (
	causeShape         = "shape"         // no STUN, no ChannelData, or not of those a TURN client sends
	causeLength        = "length"        // longer than a packet can be
	causeChallenges    = "challenges"    // too many unauthenticated requests from a source
	causeAmplification = "amplification" // the answer is too long for its request
	causeCredentials   = "credentials"
	causeUnknown       = "unknown" // of a client without an allocation
	causeAllocations   = "allocations"
	causePermissions   = "permissions"
	causeChannels      = "channels"
	causeLifetime      = "lifetime"
	causeTransport     = "transport" // TCP to the TURN peer, EVEN-PORT, the other address family
	causePeer          = "peer"      // a forbidden TURN peer
	causeRate          = "rate"
	causeConnections   = "connections"
	causeTimeout       = "timeout"
)

type metrics struct {
	allocations, connections prometheus.Gauge
	refused                  *prometheus.CounterVec
	up, down                 traffic
	collectors               []prometheus.Collector
}

// traffic is what was relayed in one direction.
type traffic struct{ bytes, packets prometheus.Counter }

func (t traffic) count(n int) {
	t.bytes.Add(float64(n))
	t.packets.Inc()
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "visavis", Subsystem: "relay", Name: name, Help: help}
	}
	vec := func(name, help string, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts(name, help)), []string{label})
	}
	bytes := vec("bytes_total", "Payload relayed, up to TURN peers and down to clients.", "direction")
	packets := vec("packets_total", "Packets relayed, up to TURN peers and down to clients.", "direction")
	m := &metrics{
		allocations: prometheus.NewGauge(prometheus.GaugeOpts(opts("allocations", "Allocations now."))),
		connections: prometheus.NewGauge(prometheus.GaugeOpts(opts("tcp_connections", "TCP connections of clients now."))),
		refused:     vec("refused_total", "What clients or TURN peers sent and was refused or dropped.", "cause"),
		up:          traffic{bytes.WithLabelValues("up"), packets.WithLabelValues("up")},
		down:        traffic{bytes.WithLabelValues("down"), packets.WithLabelValues("down")},
	}
	m.collectors = []prometheus.Collector{m.allocations, m.connections, m.refused, bytes, packets}
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	for _, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) refuse(cause string) { m.refused.WithLabelValues(cause).Inc() }
