package turnload

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A vector made with: printf 1800000000:anna | openssl dgst -sha1 -hmac north -binary | base64
func TestRESTCredentials(t *testing.T) {
	username, password := RESTCredentials("north", "anna", time.Unix(1_800_000_000, 999))
	if username != "1800000000:anna" || password != "hcODHAE/R+P6eKoXy+CURRRDzsg=" {
		t.Errorf("RESTCredentials = %q, %q", username, password)
	}
}

func TestPresets(t *testing.T) {
	for _, l := range Presets() {
		cfg := Config{Load: l, Server: netip.MustParseAddrPort("127.0.0.1:3478"), Measure: time.Second}
		if err := cfg.validate(); err != nil {
			t.Errorf("%s: %v", l.Name, err)
		}
	}
	if _, ok := Preset("none"); ok {
		t.Error("there is a preset that is not")
	}
	// Packets/s that the server relays under each load.
	for name, want := range map[string]float64{"smooth": 40_000, "audio": 20_000, "video": 24_242, "pair": 20_000} {
		l, _ := Preset(name)
		if got := l.Rate * float64(l.senders()); got < want-1 || got > want+1 {
			t.Errorf("%s: %.0f packets/s, want %.0f", name, got, want)
		}
	}
	if video, _ := Preset("video"); video.interval().Round(time.Microsecond) != 33*time.Millisecond {
		t.Errorf("bursts of video each %v, want 33 ms", video.interval())
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Legs = 0 }, "0 legs"},
		{func(c *Config) { c.Legs, c.Pair = 3, true }, "3 legs are no pairs"},
		{func(c *Config) { c.Rate = -1 }, "rate -1"},
		{func(c *Config) { c.Size = payloadHeader - 1 }, "size 15"},
		{func(c *Config) { c.Size = longestDatagram + 1 }, "size 65504"},
		{func(c *Config) { c.BurstMax = 0 }, "bursts of 1 to 0"},
		{func(c *Config) { c.BurstMax = 65 }, "bursts of 1 to 65"},
		{func(c *Config) { c.GSO, c.BurstMax, c.Size = true, 64, 1100 }, "too long for GSO"},
		{func(c *Config) { c.Measure = 0 }, "no time"},
		{func(c *Config) { c.Threads = -1 }, "-1 threads"},
	} {
		smooth, _ := Preset("smooth")
		cfg := Config{Load: smooth, Measure: time.Second}
		c.change(&cfg)
		err := cfg.validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
