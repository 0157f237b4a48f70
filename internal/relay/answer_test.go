package relay

import (
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// BenchmarkAnswer is what a request costs from its bytes to those of the answer, without the system calls.
func BenchmarkAnswer(b *testing.B) {
	d := newDesk(b, nil)
	p := d.person("9.9.9.9:1000", "anna", "a call", "caller")
	p.want(0, stun.MethodAllocate, udp)
	key := stun.NewLongTermIntegrity(p.credentials.Username, "visavis", p.credentials.Password)
	signed := func(method stun.Method, attributes ...stun.Setter) []byte {
		list := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
		return stun.MustBuild(append(list, stun.NewUsername(p.credentials.Username), stun.NewRealm("visavis"), p.nonce, key)...).Raw
	}
	for name, request := range map[string][]byte{
		"Binding":   stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw,
		"challenge": stun.MustBuild(stun.TransactionID, allocate, udp).Raw,
		"Refresh":   signed(stun.MethodRefresh),
		"refused":   signed(stun.MethodChannelBind, peer("8.8.8.8:5000")),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.now = d.now.Add(time.Millisecond) // within the rates of one client
				if d.response(request, p.from) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
