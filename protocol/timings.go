package protocol

import "time"

// Timings are the numbers that both sides of the wire act by. The server has
// the only copy and sends it in [Welcome]; all are milliseconds.
type Timings struct {
	// RingMs is how long a call rings (5–180 s by setting).
	RingMs int64 `json:"ringMs"`
	// UnreachableMs is how long the server waits for a first device to confirm
	// that it rings.
	UnreachableMs int64 `json:"unreachableMs"`
	// CallerGraceMs is how long a call rings on without its caller's connection.
	CallerGraceMs int64 `json:"callerGraceMs"`
	// ConnectMs is how long media may take after accept.
	ConnectMs int64 `json:"connectMs"`
	// StalledMs is how long media may stand still before that is shown, and ICE
	// restarted.
	StalledMs int64 `json:"stalledMs"`
	// PartyGraceMs is how long an active call outlives a party's connection.
	PartyGraceMs int64 `json:"partyGraceMs"`
	// ReloadMs is how long an active call outlives a party's page that was closed.
	ReloadMs int64 `json:"reloadMs"`
	// RestartAfterMs is how long a client waits for a disconnected connection by
	// which media was not missed yet before it restarts ICE; RestartTriesMs are the
	// waits between its tries, the last again and again.
	RestartAfterMs int64   `json:"restartAfterMs"`
	RestartTriesMs []int64 `json:"restartTriesMs"`
	// MediaLostMs is how long media may be away while both connections are up, and
	// both parties miss it.
	MediaLostMs int64 `json:"mediaLostMs"`
	// ResumeMs is how long a session can be resumed after its connection went.
	ResumeMs int64 `json:"resumeMs"`
	// PingMs is the time between pings; after two without a sign of life a
	// connection counts as dead, on either side.
	PingMs int64 `json:"pingMs"`
}

// DefaultTimings are those of the design: Signal's and Stream's ring time,
// Telegram's unreachable and connect times, Matrix' and LiveKit's for ICE restarts, RFC 7675's consent for lost media.
func DefaultTimings() Timings {
	return Timings{
		RingMs:         ms(60 * time.Second),
		UnreachableMs:  ms(20 * time.Second),
		CallerGraceMs:  ms(10 * time.Second),
		ConnectMs:      ms(30 * time.Second),
		StalledMs:      ms(time.Second),
		PartyGraceMs:   ms(60 * time.Second),
		ReloadMs:       ms(30 * time.Second),
		RestartAfterMs: ms(2 * time.Second),
		RestartTriesMs: []int64{0, 300, 1200, 2700, 4800, 7000},
		MediaLostMs:    ms(30 * time.Second),
		ResumeMs:       ms(2 * time.Minute),
		PingMs:         ms(25 * time.Second),
	}
}

func ms(d time.Duration) int64 { return d.Milliseconds() }

// Duration is a number of milliseconds of this package as a time.Duration.
func Duration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
