package call

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

// TestCredentialsAreRenewed: both parties of an active call get fresh relay credentials again and again, for as long as it
// lives, and one whose connection is back gets them at once.
func TestCredentialsAreRenewed(t *testing.T) {
	const every = 20 * time.Minute
	issued := 0
	fresh := testRules
	fresh.renewAfter = every
	fresh.iceServers = func(user protocol.UserID, call string) []protocol.ICEServer {
		issued++
		return []protocol.ICEServer{{URLs: []string{"turn:relay"}, Username: fmt.Sprint(user, call, issued), Credential: "x"}}
	}
	c, _ := begin(dial{
		ID: "n1-c", Caller: fromSession("a1"), Callee: protocol.User{ID: "bob"}, rules: fresh,
	}, start)
	c.Step(foundBob, start)
	now := start.Add(time.Minute) // it has rung for so long, with credentials of its beginning
	// step is what concerns credentials of an input's outputs.
	step := func(in Input) []string {
		var did []string
		for _, o := range c.Step(in, now) {
			switch o := o.(type) {
			case Send:
				if m, ok := o.Message.(*protocol.Refresh); ok {
					if m.Call != c.ID || len(m.ICEServers) != 1 || m.ICEServers[0].Credential == "" {
						t.Errorf("%v sends %+v", in.Kind, m)
					}
					did = append(did, string(o.Session)+" "+m.ICEServers[0].Username)
				}
			case SetTimer:
				if o.Kind == CredentialsTimeout {
					did = append(did, "again after "+o.After.String())
				}
			case StopTimer:
				if o.Kind == CredentialsTimeout {
					did = append(did, "no more")
				}
			}
		}
		return did
	}
	for _, test := range []struct {
		in   Input
		want []string
	}{
		{by("b1", Confirm), nil},
		{by("b1", Accept), []string{"again after 19m0s"}},
		{Input{Kind: CredentialsTimeout}, []string{"a1 annn1-c%d", "b1 bobn1-c%d", "again after 20m0s"}},
		{by("a1", ConnectionLost), nil},
		{by("a1", ConnectionBack), []string{"a1 annn1-c%d"}},
		{Input{Kind: CredentialsTimeout}, []string{"a1 annn1-c%d", "b1 bobn1-c%d", "again after 20m0s"}},
		{by("b1", Hangup), []string{"no more"}},
		{Input{Kind: CredentialsTimeout}, nil},
	} {
		last := issued
		want := []string(nil)
		for _, w := range test.want {
			if w[len(w)-1] == 'd' { // each is issued anew
				last++
				w = fmt.Sprintf(w, last)
			}
			want = append(want, w)
		}
		if diff := cmp.Diff(want, step(test.in)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.in.Kind, diff)
		}
		if test.in.Kind != Confirm {
			now = now.Add(every)
		}
	}
}
