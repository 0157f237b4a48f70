package socketio

import (
	"strings"
	"testing"
)

func TestPackets(t *testing.T) {
	for _, c := range []struct {
		text string
		want packet
		ok   bool
	}{
		{"", packet{namespace: "/"}, false},
		{"0", packet{'0', "/", "", ""}, true},
		{`0{"token":"x"}`, packet{'0', "/", "", `{"token":"x"}`}, true},
		{"0/admin", packet{'0', "/admin", "", ""}, true},
		{`0/admin,{}`, packet{'0', "/admin", "", "{}"}, true},
		{`2["a"]`, packet{'2', "/", "", `["a"]`}, true},
		{`2/b,17["a"]`, packet{'2', "/b", "17", `["a"]`}, true},
		{`51-["a"]`, packet{'5', "/", "", `["a"]`}, true},
		{`51-/b,3["a"]`, packet{'5', "/b", "3", `["a"]`}, true},
		{`51`, packet{'5', "/", "", ""}, true},
		{"7", packet{'7', "/", "", ""}, false},
		{"2" + strings.Repeat("1", 21), packet{'2', "/", strings.Repeat("1", 21), ""}, false},
	} {
		got, ok := parsePacket(c.text)
		if got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %t, want %+v, %t", c.text, got, ok, c.want, c.ok)
		}
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range []string{"", "0", `0/a,{}`, `27["a"]`, `51-/b,3["a"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := parsePacket(text); ok && len(p.namespace)+len(p.id)+len(p.data) > len(text)+1 {
			t.Errorf("%q: %+v", text, p)
		}
	})
}
