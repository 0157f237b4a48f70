// Package turnload drives a TURN server as calls do, and measures what that costs: any server, ours or another's, over UDP
// with ChannelData (RFC 8656 §12).
//
// It is no TURN client to build on: it has one channel for each allocation and leaves whatever a measurement does not
// need. Way in: Presets names the loads, Run drives one.
//
//	             ┌── leg: an allocation with one channel ──┐
//	client ──ChannelData──▶ server ──▶ relayed address ──▶ peer      up
//	client ◀──ChannelData── server ◀── relayed address ◀── peer      down
//
//	client A ──ChannelData──▶ server: A's allocation ▶ B's allocation ──ChannelData──▶ client B      a pair of legs
//
// Clients and peers are sockets of this process, and a worker (a thread) has many. It sends by its own clock and looks
// at what arrived only now and then, so that the server never pays for waking it; the time of arrival is the kernel's
// (SO_TIMESTAMPNS), that of sending stands in the packet, and both are of the same clock.
package turnload

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the REST format's, not our choice
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Load is the shape of what is sent.
type Load struct {
	// Name is that of the preset.
	Name string `json:"name"`
	// Legs are the allocations. In pairs of them one sends to the other; else each has a peer of its own, which
	// sends as much as its client.
	Legs int  `json:"legs"`
	Pair bool `json:"pair"`
	// Rate is packets/s of each client and each peer; Size the bytes in one, without the header of ChannelData.
	Rate float64 `json:"rate"`
	Size int     `json:"size"`
	// BurstMin and BurstMax bound how many packets are sent at once, in intervals that make up the rate.
	BurstMin int `json:"burstMin"`
	BurstMax int `json:"burstMax"`
}

// Presets are the loads of docs/relay-bench.md. A burst of video comes every 33 ms.
func Presets() []Load {
	return []Load{
		{Name: "smooth", Legs: 40, Rate: 500, Size: 1000, BurstMin: 1, BurstMax: 1},
		{Name: "audio", Legs: 200, Rate: 50, Size: 120, BurstMin: 1, BurstMax: 1},
		{Name: "video", Legs: 40, Rate: 10 / 0.033, Size: 1100, BurstMin: 5, BurstMax: 15},
		{Name: "saturation", Legs: 40, Rate: 2000, Size: 1000, BurstMin: 1, BurstMax: 1},
		{Name: "pair", Legs: 40, Pair: true, Rate: 500, Size: 1000, BurstMin: 1, BurstMax: 1},
		{Name: "idle", Legs: 2000, Size: 1000, BurstMin: 1, BurstMax: 1},
	}
}

// Preset is the load of that name.
func Preset(name string) (Load, bool) {
	presets := Presets()
	i := slices.IndexFunc(presets, func(l Load) bool { return l.Name == name })
	if i < 0 {
		return Load{}, false
	}
	return presets[i], true
}

// interval is the time between two bursts.
func (l Load) interval() time.Duration {
	return time.Duration(float64(l.BurstMin+l.BurstMax) / 2 / l.Rate * float64(time.Second))
}

// senders are the sockets that send.
func (l Load) senders() int {
	switch {
	case l.Rate == 0:
		return 0
	case l.Pair:
		return l.Legs
	}
	return 2 * l.Legs
}

// Config is a load and where to put it.
type Config struct {
	Load

	// Server is the TURN server. When it is an IPv4 loopback address, each leg has a loopback address of its own: to
	// the server they are as many clients.
	Server netip.AddrPort
	// Credentials are those of each leg, from 0 on. Legs with a user of their own have a quota of their own.
	Credentials func(leg int) (username, password string)

	// WarmUp comes before what is measured, and Measure is how long that is.
	WarmUp, Measure time.Duration
	// Threads share the legs. Default: 1, which is enough for some 200,000 packets/s.
	Threads int
	// GSO hands each burst to the kernel as one packet, which a server with UDP_GRO gets in one piece.
	GSO bool
	// PID is the server's process, whose CPU time and memory are read; 0 for none.
	PID int

	// Progress, if there is one, is called about twice a second, from the goroutine of Run.
	Progress func(Progress)
}

// longestDatagram is UDP's over IPv4, with room for the header of ChannelData.
const longestDatagram = 65507 - channelHeader

func (c Config) validate() error {
	switch {
	case c.Legs < 1:
		return fmt.Errorf("%d legs: want 1 or more", c.Legs)
	case c.Pair && c.Legs%2 != 0:
		return fmt.Errorf("%d legs are no pairs", c.Legs)
	case c.Rate < 0 || c.Rate > 1e6:
		return fmt.Errorf("rate %g: want 0 to 1000000 packets/s", c.Rate)
	case c.Size < payloadHeader || c.Size > longestDatagram:
		return fmt.Errorf("size %d: want %d to %d bytes", c.Size, payloadHeader, longestDatagram)
	case c.BurstMin < 1 || c.BurstMax < c.BurstMin || c.BurstMax > longestBurst:
		return fmt.Errorf("bursts of %d to %d packets: want a range in 1 to %d", c.BurstMin, c.BurstMax, longestBurst)
	case c.GSO && c.BurstMax*(channelHeader+c.Size) > longestDatagram:
		return fmt.Errorf("bursts of %d packets of %d bytes are too long for GSO", c.BurstMax, c.Size)
	case c.WarmUp < 0 || c.Measure <= 0:
		return errors.New("nothing is measured in no time")
	case c.Threads < 0:
		return fmt.Errorf("%d threads: want 1 or more", c.Threads)
	}
	return nil
}

// Progress is how it goes. Counts are since the progress before.
type Progress struct {
	// Allocated counts up to the number of legs; only then packets are sent.
	Allocated int
	// Elapsed is the time since sending began; Measuring says that the warm-up is over.
	Elapsed   time.Duration
	Measuring bool
	// Sent and Received are packets/s; Lost is the share of all that were sent a while ago.
	Sent, Received, Lost float64
	P50, P99             time.Duration
	// CPU is the share of one core that the process has, RSS its memory in bytes; 0 without PID.
	CPU float64
	RSS int64
}

// Result is what was measured in the steady window: of packets that were sent in it.
type Result struct {
	Load    Load    `json:"load"`
	Seconds float64 `json:"seconds"`
	// AllocateMs is how long all the legs took to have their channels.
	AllocateMs float64 `json:"allocateMs"`

	// Offered is what the rate makes in that time; less is Sent where this machine does not keep up.
	Offered  int64 `json:"offered"`
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	// Up and Down are the parts of Received from clients and from peers.
	Up   int64 `json:"up"`
	Down int64 `json:"down"`
	// Foreign are packets that arrived where they do not belong, or in another length.
	Foreign int64 `json:"foreign"`
	// Loss is the share of Sent that was not received.
	Loss float64 `json:"loss"`
	// PacketsPerSecond were relayed, from end to end.
	PacketsPerSecond float64 `json:"packetsPerSecond"`

	Latency Latency `json:"latency"`
	// Server is nil without a PID.
	Server *Process `json:"server,omitempty"`
	// GeneratorCPU is the share of one core that measuring took.
	GeneratorCPU float64 `json:"generatorCpu"`
	// OthersCPU is what was used on this machine by neither it nor the server: the more, the less the figures are
	// worth. 0 without a PID.
	OthersCPU float64 `json:"othersCpu"`
}

// Latency is one-way, from before a packet is handed to the kernel until it reached the receiver's socket.
type Latency struct {
	P50Us float64 `json:"p50Us"`
	P90Us float64 `json:"p90Us"`
	P99Us float64 `json:"p99Us"`
	MaxUs float64 `json:"maxUs"`
}

// Process is what the server's process used.
type Process struct {
	PID int `json:"pid"`
	// CPUUsPerPacket is user and system time for each packet that was received.
	CPUUsPerPacket float64 `json:"cpuUsPerPacket"`
	// CPU is the share of one core.
	CPU float64 `json:"cpu"`
	// RSSBefore is the resident memory in bytes before the first allocation, RSS that at the end of the window.
	RSSBefore int64 `json:"rssBefore"`
	RSS       int64 `json:"rss"`
	// BytesPerAllocation is by how much it grew.
	BytesPerAllocation float64 `json:"bytesPerAllocation"`
}

// A RefusedError is an error response of the server.
type RefusedError struct {
	Leg    int    // from 0 on
	Method string // such as Allocate
	Code   int    // RFC 8656 §18, such as 401
	Reason string
}

// Error implements the error interface.
func (e *RefusedError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("leg %d: the server refuses %s: %d %s", e.Leg+1, e.Method, e.Code, e.Reason))
}

// ErrSilent is a server that does not answer.
var ErrSilent = errors.New("no answer")

// RESTCredentials are those of coturn's --use-auth-secret and other servers: a user name that says until when it is
// good, signed with a secret (draft-uberti-behave-turn-rest-00 §2.2).
func RESTCredentials(secret, user string, expires time.Time) (username, password string) {
	username = strconv.FormatInt(expires.Unix(), 10) + ":" + user
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return username, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

const (
	channelHeader = 4  // RFC 8656 §12.4
	payloadHeader = 16 // see stamp
	longestBurst  = 64 // what the kernel segments at once
)
