package relay

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// A cause says why a packet was dropped or a request refused. The first half is of packets.
type cause int

const (
	none cause = iota

	// Of packets.
	dropShape      // no STUN, no ChannelData, or not of those a TURN client sends
	dropLength     // longer than what it is to be sent in
	dropUnknown    // of a client without an allocation
	dropChannel    // on a channel that is not bound
	dropPermission // without a permission
	dropConsent    // to a TURN peer that has not agreed
	dropPeer       // to or from a forbidden TURN peer, or one of another call
	dropRate
	dropSource     // beyond what a source may relay
	dropTotal      // beyond what the relay may relay
	dropFull       // our socket has no room for what we send
	dropOverflow   // came faster than we read; of a relayed address it is known when that is closed
	dropGone       // its way out was closed meanwhile
	dropLate       // the client's connection is slower than its media
	dropBusy       // the queue of requests is full
	dropFailed     // the kernel had another reason
	dropChallenges // too many unauthenticated requests from a source
	dropAmplification

	// Of requests.
	refuseCredentials
	refuseNonce
	refuseMalformed
	refuseAttributes
	refuseMismatch
	refuseCall // ended, or none where permissions are scoped to calls
	refuseAllocations
	refuseSource // too many allocations from one source
	refuseCapacity
	refusePermissions
	refuseChannels
	refuseTransport
	refuseFamily
	refusePeer
	refuseConnections
	refuseTimeout
	refuseHandshake
	refuseFeed // no such secret, a broken frame, or too many

	causes
)

const firstRefusal = refuseCredentials

var causeNames = [causes]string{
	dropShape: "shape", dropLength: "length", dropUnknown: "unknown", dropChannel: "channel",
	dropPermission: "permission", dropConsent: "consent", dropPeer: "peer", dropRate: "rate", dropSource: "source", dropTotal: "total", dropFull: "full",
	dropOverflow: "overflow", dropGone: "gone",
	dropLate: "late", dropBusy: "busy", dropFailed: "failed", dropChallenges: "challenges",
	dropAmplification: "amplification",

	refuseCredentials: "credentials", refuseNonce: "nonce", refuseMalformed: "malformed",
	refuseAttributes: "attributes", refuseMismatch: "mismatch", refuseCall: "call", refuseAllocations: "allocations", refuseSource: "source",
	refuseCapacity: "capacity", refusePermissions: "permissions", refuseChannels: "channels",
	refuseTransport: "transport", refuseFamily: "family", refusePeer: "peer", refuseConnections: "connections",
	refuseTimeout: "timeout", refuseHandshake: "handshake", refuseFeed: "feed",
}

// drops counts by cause.
type drops [causes]atomic.Uint64

func (d *drops) count(c cause) { d[c].Add(1) }

// flow is what carriers count beside allocations' own traffic.
type flow struct {
	up, down traffic       // to TURN peers and to clients, all allocations ever
	handed   atomic.Uint64 // packets that went from one allocation to another
	grouped  atomic.Uint64 // packets sent in segments of one call
}

// metrics are what Prometheus is told; they are read when it asks.
type metrics struct {
	drops       drops
	flow        flow
	allocations atomic.Int64
	connections atomic.Int64
	pending     atomic.Int64
	feeds       atomic.Int64
	load        func() []float64 // of each worker, 0–1; nil where there are none

	count, gauges map[string]*prometheus.Desc
}

func newMetrics() *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("visavis_relay_"+name, help, labels, nil)
	}
	return &metrics{
		count: map[string]*prometheus.Desc{
			"dropped": desc("dropped_total", "Packets that were dropped.", "cause"),
			"refused": desc("refused_total", "Requests and connections that were refused.", "cause"),
			"bytes":   desc("bytes_total", "Payload relayed, up to TURN peers and down to clients.", "direction"),
			"packets": desc("packets_total", "Packets relayed, up to TURN peers and down to clients.", "direction"),
			"handed":  desc("handed_packets_total", "Packets handed from one allocation to another, counted as up and down, too."),
			"grouped": desc("grouped_packets_total", "Packets sent as segments of one system call (GSO)."),
		},
		gauges: map[string]*prometheus.Desc{
			"allocations": desc("allocations", "Allocations now."),
			"connections": desc("tcp_connections", "TCP and TLS connections of clients now."),
			"pending":     desc("parked_requests", "Requests that wait now until the other party's address is shown."),
			"feeds":       desc("feeds", "Servers that tell of calls now."),
			"load":        desc("worker_load", "Share of the last second in which a worker did not wait.", "worker"),
		},
	}
}

// Describe is prometheus.Collector's.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.count {
		ch <- d
	}
	for _, d := range m.gauges {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	count := func(name string, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.count[name], prometheus.CounterValue, float64(n), labels...)
	}
	for c := none + 1; c < causes; c++ {
		name := "dropped"
		if c >= firstRefusal {
			name = "refused"
		}
		count(name, m.drops[c].Load(), causeNames[c])
	}
	count("bytes", m.flow.up.bytes.Load(), "up")
	count("bytes", m.flow.down.bytes.Load(), "down")
	count("packets", m.flow.up.packets.Load(), "up")
	count("packets", m.flow.down.packets.Load(), "down")
	count("handed", m.flow.handed.Load())
	count("grouped", m.flow.grouped.Load())

	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(m.gauges[name], prometheus.GaugeValue, v, labels...)
	}
	gauge("allocations", float64(m.allocations.Load()))
	gauge("connections", float64(m.connections.Load()))
	gauge("pending", float64(m.pending.Load()))
	gauge("feeds", float64(m.feeds.Load()))
	if m.load != nil {
		for i, load := range m.load() {
			gauge("load", load, strconv.Itoa(i))
		}
	}
}
