package node

import (
	"math"
	"testing"
)

func TestMaxConnections(t *testing.T) {
	relay := Relay{Enabled: true, MinPort: 49152, MaxPort: 65535}
	tests := []struct {
		files uint64
		relay Relay
		want  int
	}{
		{0, relay, 0},
		{1024, relay, 512},
		{65536, relay, 65536 - 16384 - 512},
		{65536, Relay{MinPort: 49152, MaxPort: 65535}, 65024},
		{math.MaxUint64, relay, 1 << 30},
	}
	for _, test := range tests {
		if got := maxConnections(test.files, test.relay); got != test.want {
			t.Errorf("%d files, relay %v: got %d, want %d", test.files, test.relay.Enabled, got, test.want)
		}
	}
}
