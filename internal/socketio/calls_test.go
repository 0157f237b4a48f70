package socketio_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/visavis/visavis/internal/node/nodetest"
	"github.com/visavis/visavis/protocol"
)

func TestTwoPagesCallEachOtherByEveryTransport(t *testing.T) {
	base := start(t)
	for _, ways := range transports {
		for _, peerWays := range transports {
			t.Run(ways+" to "+peerWays, func(t *testing.T) {
				ann := enter(t, base, ways, "Ann "+ways+" "+peerWays)
				bob := enter(t, base, peerWays, "Bob "+ways+" "+peerWays)
				a, b := "Ann "+ways+" "+peerWays, "Bob "+ways+" "+peerWays
				ann.emit("offer", dict{"username": a, "target": b, "offer": description("offer", "aaaa", "1")})
				ann.emit("candidate", dict{"username": a, "target": b, "candidate": candidate("aaaa", "192.0.2.1")})
				offer := bob.await("offer")
				if offer.Username != a || offer.Target != b || offer.Offer.SDP != description("offer", "aaaa", "1").SDP {
					t.Errorf("offer: %+v", offer)
				}
				ann.await("ringing")
				bob.emit("answer", dict{"username": b, "target": a, "answer": description("answer", "bbbb", "2")})
				bob.emit("candidate", dict{"username": b, "target": a, "candidate": candidate("bbbb", "192.0.2.2")})
				if e := ann.await("answer"); e.Username != b || e.Target != a || e.Answer.Type != "answer" || e.Call != offer.Call {
					t.Errorf("answer: %+v", e)
				}
				if e := ann.await("candidate"); !strings.Contains(e.Candidate.Candidate, "192.0.2.2") {
					t.Errorf("candidate to Ann: %+v", e.Candidate)
				}
				if e := bob.await("candidate"); !strings.Contains(e.Candidate.Candidate, "192.0.2.1") || e.Username != a {
					t.Errorf("candidate to Bob: %+v", e.Candidate)
				}
				bob.emit("hangup", nil)
				for _, v := range []*visitor{ann, bob} {
					if e := v.await("ended"); e.Reason != "hungup" || e.By != b {
						t.Errorf("ended: %+v", e)
					}
				}
			})
		}
	}
}

// Candidates reach a page only once it can take them, whenever they were sent.
func TestEarlyCandidatesAreHeldBack(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.1")}) // before the offer
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("old1", "192.0.2.9")}) // of an earlier one
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.2")})
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.3")}) // before its answer
	bob.emit("candidate", dict{"target": "Ann", "candidate": nil})
	bob.emit("nonsense", dict{}) // answered in order: whatever came before has been acted on
	bob.await("error")
	ann.emit("nonsense", dict{})
	ann.await("error")
	if got := bob.events(); slices.Contains(got, "candidate") {
		t.Errorf("before Bob answers he gets %v", got)
	}
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	for _, want := range []string{"192.0.2.1", "192.0.2.2"} {
		if e := bob.await("candidate"); !strings.Contains(e.Candidate.Candidate, want) {
			t.Errorf("Bob gets %s, want %s", e.Candidate.Candidate, want)
		}
	}
	if e := ann.await("answer", "candidate"); e.event != "answer" {
		t.Error("Ann gets a candidate before the answer")
	}
	ann.await("candidate")
}

// Our own client: it is rung, confirms without early, accepts, and answers.
func TestAPageCallsOurClient(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "polling", "Ann"), nodetest.Enter(t, base, "Bob")
	ann.emit("offer", dict{"username": "somebody else", "target": "Bob", "offer": description("offer", "aaaa", "1")})
	ann.emit("candidate", dict{"target": "Bob", "candidate": candidate("aaaa", "192.0.2.1")})
	ring := nodetest.Await[*protocol.Ring](bob)
	if ring.From.Name != "Ann" || ring.Video {
		t.Errorf("ring from %+v, video %t", ring.From, ring.Video)
	}
	bob.Send(&protocol.Ringing{Call: ring.Call})
	ann.await("ringing")
	bob.Send(&protocol.Accept{Call: ring.Call})
	offer := nodetest.Await[*protocol.Offer](bob)
	nodetest.Await[*protocol.Candidates](bob)
	if media := nodetest.Await[*protocol.Media](bob); media.Connection != protocol.Connecting {
		t.Errorf("media before the answer: %+v", media)
	}
	bob.Send(&protocol.Answer{Call: offer.Call, Description: *description("answer", "bbbb", "2")})
	ann.await("answer")
	if media := nodetest.Await[*protocol.Media](bob); media.Connection != protocol.Connected || !media.Audio || media.Video {
		t.Errorf("media after the answer: %+v", media)
	}
	bob.Send(&protocol.Hangup{Call: ring.Call})
	if e := ann.await("ended"); e.Reason != "hungup" || e.By != "Bob" || e.Username != "Bob" {
		t.Errorf("ended: %+v", e)
	}
}

// Our own client: it sends its offer as soon as the call is named.
func TestOurClientCallsAPage(t *testing.T) {
	base := start(t)
	bob := enter(t, base, "websocket", "Bob")
	ann := nodetest.Enter(t, base, "Ann")
	ann.Send(&protocol.Ring{Ref: "1", To: ann.Welcome.Users[0].ID, Video: true})
	calling := nodetest.Await[*protocol.Calling](ann)
	ann.Send(&protocol.Offer{Call: calling.Call, Description: *description("offer", "aaaa", "1")})
	ann.Send(&protocol.Candidates{Call: calling.Call, Candidates: []protocol.Candidate{
		{Candidate: "candidate:1 1 udp 1 192.0.2.1 1 typ host"}, {Candidate: ""},
	}})
	if e := bob.await("ring"); e.Username != "Ann" || e.Call != string(calling.Call) {
		t.Errorf("ring: %+v", e)
	}
	bob.await("offer")
	bob.emit("candidate", dict{"target": "Ann", "candidate": candidate("bbbb", "192.0.2.2")})
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	nodetest.Await[*protocol.Accept](ann)
	nodetest.Await[*protocol.Answer](ann)
	if m := nodetest.Await[*protocol.Candidates](ann); len(m.Candidates) != 1 {
		t.Errorf("candidates to Ann: %+v", m.Candidates)
	}
	if m := nodetest.Await[*protocol.Media](ann); m.Connection != protocol.Connected {
		t.Errorf("media of Bob: %+v", m)
	}
	bob.await("candidate")
	ann.Send(&protocol.Offer{Call: calling.Call, Description: *description("offer", "aaaa", "1")})
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	nodetest.Await[*protocol.Answer](ann)
	bob.emit("offer", dict{"target": "Ann", "offer": description("offer", "bbbb", "2")})
	if m := nodetest.Await[*protocol.Offer](ann); m.Call != calling.Call {
		t.Errorf("Bob's offer is of %s, want %s", m.Call, calling.Call)
	}
	if got := bob.events(); slices.Contains(got, "candidate") || slices.Contains(got, "error") {
		t.Errorf("beside that Bob gets %v", got)
	}
}

// A page may number its users, and write the numbers as numbers.
func TestNumbersAreNames(t *testing.T) {
	base := start(t)
	ann := connect(t, base, "websocket", url.Values{}, `{"username":10000001}`)
	ann.await("welcome")
	bob := enter(t, base, "websocket", "20000002")
	ann.emit("offer", dict{"username": 10000001, "target": 20000002, "offer": description("offer", "aaaa", "1")})
	ann.emit("candidate", dict{"target": 20000002, "candidate": candidate("aaaa", "192.0.2.1")})
	if e := bob.await("offer"); e.Username != "10000001" || e.Target != "20000002" {
		t.Errorf("offer: %+v", e)
	}
	bob.emit("answer", dict{"target": 10000001, "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
	bob.await("candidate")
	for _, target := range []any{true, dict{}, []int{1}} {
		ann.emit("offer", dict{"target": target, "offer": description("offer", "aaaa", "1")})
		if e := ann.await("error"); e.Code != "bad_message" {
			t.Errorf("target %v: %+v", target, e)
		}
	}
}

func TestOneSessionTakesTheCall(t *testing.T) {
	base := start(t)
	ann := enter(t, base, "websocket", "Ann")
	token := nodetest.Enter(t, base, "Bob").Welcome.Token
	byToken := func(ways string) *visitor {
		v := connect(t, base, ways, url.Values{}, `{"token":"`+token+`"}`)
		v.await("welcome")
		return v
	}
	bob, bobToo := byToken("websocket"), byToken("polling")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bobToo.await("offer")
	bob.await("offer")
	bob.emit("accept", nil)
	ann.await("accept")
	if e := bobToo.await("elsewhere"); e.Act != "accepted" {
		t.Errorf("elsewhere: %+v", e)
	}
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
}

// A page does not say that a call is over, nor that it was loaded again.
func TestAPageMovesOn(t *testing.T) {
	base := start(t)
	ann, bob, cid := enter(t, base, "websocket", "Ann"), enter(t, base, "polling", "Bob"), enter(t, base, "websocket", "Cid")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")

	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaab", "11")}) // another peer connection
	if e := bob.await("ended"); e.Reason != "hungup" || e.By != "Ann" {
		t.Errorf("to Bob: %+v", e)
	}
	again := bob.await("offer")
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "22")})
	if e := ann.await("answer"); e.Call != again.Call {
		t.Errorf("the answer is of %s, want %s", e.Call, again.Call)
	}

	// It is loaded again in the middle of a call, and calls somebody else.
	dan := nodetest.Enter(t, base, "Dan")
	cid.emit("offer", dict{"target": "Dan", "offer": description("offer", "cccc", "3")})
	ring := nodetest.Await[*protocol.Ring](dan)
	dan.Send(&protocol.Accept{Call: ring.Call})
	cid.await("accept")
	cid.leave(1001) // as browsers do
	if m := nodetest.Await[*protocol.Ended](dan); m.Reason != protocol.ReasonHungup {
		t.Errorf("to Dan: %+v", m)
	}
	cid = enter(t, base, "websocket", "Cid")
	cid.emit("offer", dict{"target": "nobody", "offer": description("offer", "cccd", "33")})
	cid.await("ended")
}

// A page that was loaded again while it was rung is rung again.
func TestAPageLoadedAgainIsRungAgain(t *testing.T) {
	base := start(t)
	ann, bob := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	bob.await("offer")
	token := nodetest.Enter(t, base, "Dan").Welcome.Token
	dan := connect(t, base, "websocket", url.Values{}, `{"token":"`+token+`"}`)
	dan.await("welcome")
	bob.emit("decline", nil)
	ann.await("ended")
	ann.emit("offer", dict{"target": "Dan", "offer": description("offer", "aaaa", "1")})
	dan.await("offer")
	dan.leave(1001)
	dan = connect(t, base, "websocket", url.Values{}, `{"token":"`+token+`"}`)
	dan.await("offer")
	dan.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
}

// Two pages that call each other are in one call, without a tap, and both can call again.
func TestTwoPagesCallEachOtherAtOnce(t *testing.T) {
	base := start(t)
	ann, bob, cid := enter(t, base, "websocket", "Ann"), enter(t, base, "websocket", "Bob"), enter(t, base, "websocket", "Cid")
	ann.emit("offer", dict{"target": "Bob", "offer": description("offer", "aaaa", "1")})
	theirs := bob.await("offer")
	bob.emit("offer", dict{"target": "Ann", "offer": description("offer", "bbbb", "2")})
	if e := bob.await("merged"); e.Call != theirs.Call || e.Username != "Ann" {
		t.Errorf("merged: %+v", e)
	}
	for _, v := range []*visitor{ann, bob} {
		v.await("accept")
	}
	bob.emit("answer", dict{"target": "Ann", "answer": description("answer", "bbbb", "2")})
	ann.await("answer")
	for _, v := range []*visitor{ann, bob} {
		if v == ann {
			v.emit("hangup", nil)
		}
		v.await("ended")
	}
	for _, v := range []*visitor{ann, bob} {
		v.emit("offer", dict{"target": "Cid", "offer": description("offer", "cccc", "3")})
		cid.await("offer")
		v.emit("hangup", nil)
		v.await("ended")
		cid.await("ended")
	}
}
