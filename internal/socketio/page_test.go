package socketio

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

// heard is a page that Ann uses while Bob and Cid are here, with what it says to
// the hub and tells its page.
type heard struct {
	page
	did []string
	// refuse is what the hub does not take, by type.
	refuse map[string]*protocol.Error
}

func newHeard() *heard {
	h := &heard{}
	h.page = page{
		say: func(m protocol.Message) *protocol.Error {
			h.did = append(h.did, "say "+m.Type())
			return h.refuse[m.Type()]
		},
		emit: func(event string, payload any) { h.did = append(h.did, "tell "+event+why(payload)) },
		find: func(target string) protocol.UserID {
			return protocol.UserID("u" + strings.ToLower(strings.TrimPrefix(target, "u")))
		},
	}
	h.message(&protocol.Welcome{Session: "s1", User: protocol.User{ID: "uann", Name: "Ann"}})
	h.did = nil
	return h
}

// why is the word in an event that says what it is about, if it has one.
func why(payload any) string {
	body, err := json.Marshal(payload)
	if err != nil {
		return " " + err.Error()
	}
	var e struct{ Code, Reason, Act string }
	_ = json.Unmarshal(body, &e)
	return strings.TrimRight(" "+e.Code+e.Reason+e.Act, " ")
}

func sdp(kind, ufrag, connection string) protocol.Description {
	return protocol.Description{Type: kind, SDP: "v=0\r\no=- " + connection + " 2 IN IP4 127.0.0.1\r\ns=-\r\na=ice-ufrag:" + ufrag +
		"\r\na=fingerprint:sha-256 AA\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"}
}

func ice(ufrag string) protocol.Candidate {
	return protocol.Candidate{Candidate: "candidate:1 1 udp 1 192.0.2.1 1 typ host ufrag " + ufrag}
}

// does lets an event or a message in; did is what came of it.
type does func(*heard)

func event(name string, e any) does {
	return func(h *heard) {
		body, _ := json.Marshal(e)
		_ = h.event(name, body, nil)
	}
}

func offerTo(target, connection string) does {
	return event("offer", map[string]any{"username": "Eve", "target": target, "offer": sdp("offer", "mine", connection)})
}

func answerTo(target string) does {
	return event("answer", map[string]any{"target": target, "answer": sdp("answer", "mine", "1")})
}

func candidateTo(target, ufrag string) does {
	return event("candidate", map[string]any{"target": target, "candidate": ice(ufrag)})
}

func comes(m protocol.Message) does { return func(h *heard) { h.message(m) } }

func TestTranslation(t *testing.T) {
	bob := protocol.User{ID: "ubob", Name: "Bob"}
	calling := comes(&protocol.Calling{Ref: "page1", Call: "c1", To: bob})
	ring := comes(&protocol.Ring{Call: "c1", From: &bob, Video: true})
	accept := comes(&protocol.Accept{Call: "c1"})
	merged := comes(&protocol.Merged{Ref: "page1", Call: "c1", Ticket: "t"})
	theirOffer := comes(&protocol.Offer{Call: "c1", Description: sdp("offer", "bobs", "9")})
	theirAnswer := comes(&protocol.Answer{Call: "c1", Description: sdp("answer", "bobs", "9")})
	theirCandidates := comes(&protocol.Candidates{Call: "c1", Candidates: []protocol.Candidate{ice("bobs"), {}, ice("bobs")}})
	leftover := comes(&protocol.Candidates{Call: "c1", Candidates: []protocol.Candidate{ice("old")}})
	ended := func(reason protocol.EndReason) does { return comes(&protocol.Ended{Call: "c1", Reason: reason}) }
	type row struct {
		do  does
		did string // comma separated
	}
	for name, rows := range map[string][]row{
		"a page calls": {
			{offerTo("Bob", "1"), "say ring"},
			{candidateTo("Bob", "mine"), ""},
			{candidateTo("", "mine"), ""},
			{calling, "tell calling,say offer,say candidate"},
			{candidateTo("ubob", "mine"), "say candidate"},
			{comes(&protocol.Ringing{Call: "c1"}), "tell ringing"},
			{answerTo("Bob"), "tell error wrong_state"},
			{accept, "tell accept"},
			{theirCandidates, ""},
			{leftover, ""},
			{theirAnswer, "tell answer,tell candidate,tell candidate,say media"},
			{theirCandidates, "tell candidate,tell candidate"},
			{event("hangup", nil), "say hangup"},
			{event("hangup", nil), "tell error unknown_call"},
			{ended(protocol.ReasonHungup), "tell ended hungup"},
			{ended(protocol.ReasonHungup), ""},
			{theirCandidates, ""},
			{offerTo("Bob", "2"), "say ring"},
		},
		"a page is called": {
			{ring, "tell ring,say ringing"},
			{ring, ""},
			{theirOffer, "tell offer"},
			{theirCandidates, ""},
			{candidateTo("Bob", "mine"), ""},
			{offerTo("Cid", "1"), "tell error in_call"},
			{answerTo("Cid"), "tell error unknown_call"},
			{answerTo("Bob"), "say accept,say answer,say candidate,tell candidate,tell candidate,say media"},
			{accept, "tell accept"},
			{candidateTo("Bob", "mine"), "say candidate"},
			{theirCandidates, "tell candidate,tell candidate"},
			{ended(protocol.ReasonHungup), "tell ended hungup"},
			{answerTo("Bob"), "tell error unknown_call"},
		},
		"a page accepts before it answers": {
			{ring, "tell ring,say ringing"},
			{event("accept", map[string]any{}), "say accept"},
			{accept, "tell accept"},
			{theirOffer, "tell offer"},
			{answerTo("Bob"), "say answer,say media"},
		},
		"a page declines": {
			{ring, "tell ring,say ringing"},
			{event("decline", map[string]any{"call": "c1"}), "say decline"},
			{ended(protocol.ReasonDeclined), "tell ended declined"},
		},
		"another session accepts": {
			{ring, "tell ring,say ringing"},
			{theirOffer, "tell offer"},
			{comes(&protocol.Elsewhere{Call: "c1", Act: "accepted"}), "tell elsewhere accepted"},
			{answerTo("Bob"), "tell error unknown_call"},
		},
		"renegotiation, by the same peer connection": {
			{offerTo("Bob", "1"), "say ring"},
			{calling, "tell calling,say offer"},
			{accept, "tell accept"},
			{theirAnswer, "tell answer,say media"},
			{offerTo("Bob", "1"), "say offer"},
			{theirCandidates, ""},
			{theirAnswer, "tell answer,tell candidate,tell candidate,say media"},
			{theirOffer, "tell offer"},
			{theirCandidates, ""},
			{answerTo("Bob"), "say answer,tell candidate,tell candidate,say media"},
		},
		"another peer connection is another call": {
			{offerTo("Bob", "1"), "say ring"},
			{calling, "tell calling,say offer"},
			{offerTo("Bob", "2"), "say offer"}, // while it rings the newest counts
			{accept, "tell accept"},
			{theirAnswer, "tell answer,say media"},
			{offerTo("Bob", "3"), "say hangup,say ring"},
			{ended(protocol.ReasonHungup), "tell ended hungup"},
			{comes(&protocol.Calling{Ref: "page2", Call: "c2", To: bob}), "tell calling,say offer"},
			{offerTo("Cid", "4"), "say hangup,say ring"},
		},
		"the target is away": {
			{offerTo("Bob", "1"), "say ring"},
			{comes(&protocol.Calling{Ref: "page1", Call: "c1", To: protocol.User{ID: "ubob"}}), "tell calling,say offer"},
			{ended(protocol.ReasonUnreachable), "tell ended unreachable"},
			{ended(protocol.ReasonUnreachable), ""}, // the answer to the offer
		},
		"a second offer while the ring is not answered": {
			{offerTo("Bob", "1"), "say ring"},
			{offerTo("Cid", "1"), "tell error in_call"},
			{offerTo("Bob", "1"), ""},
			{calling, "tell calling,say offer"},
		},
		"hung up before the call is named": {
			{offerTo("Bob", "1"), "say ring"},
			{event("hangup", nil), ""},
			{offerTo("Bob", "1"), "tell error in_call"},
			{calling, "say hangup"},
			{ended(protocol.ReasonCanceled), "tell ended canceled"},
		},
		"rung while ringing somebody": {
			{offerTo("Cid", "1"), "say ring"},
			{ring, "tell ring,say ringing"},
			{theirOffer, "tell offer"},
			{answerTo("Bob"), "say accept,say answer,say media"},
		},
		"two rings cross": {
			{offerTo("Bob", "1"), "say ring"},
			{candidateTo("Bob", "mine"), ""},
			{ring, "tell ring,say ringing"},
			{merged, "tell merged,tell accept"},
			{theirOffer, "tell offer"},
			{answerTo("Bob"), "say answer,say media"},
			{event("hangup", nil), "say hangup"},
			{ended(protocol.ReasonHungup), "tell ended hungup"},
			{offerTo("Cid", "2"), "say ring"},
		},
		"the page calls the one who rings it": {
			{ring, "tell ring,say ringing"},
			{offerTo("Bob", "1"), "say ring"},
			{merged, "tell merged,tell accept"},
			{offerTo("Cid", "2"), "say hangup,say ring"},
		},
		"two rings cross, and the page has hung up before it hears": {
			{offerTo("Bob", "1"), "say ring"},
			{event("hangup", nil), ""},
			{ring, "tell ring,say ringing"},
			{merged, "say hangup"},
			{ended(protocol.ReasonHungup), "tell ended hungup"},
			{offerTo("Cid", "2"), "say ring"},
		},
		"two rings cross, and the page has declined the other": {
			{offerTo("Bob", "1"), "say ring"},
			{ring, "tell ring,say ringing"},
			{event("decline", nil), "say decline"},
			{merged, "say hangup"},
			{ended(protocol.ReasonHungup), "tell ended hungup"},
			{offerTo("Cid", "2"), "say ring"},
		},
		"the peer rings again in the call": {
			{ring, "tell ring,say ringing"},
			{theirOffer, "tell offer"},
			{answerTo("Bob"), "say accept,say answer,say media"},
			{comes(&protocol.Ended{Call: "c1", Reason: protocol.ReasonMigrated, Next: "c2"}), "tell ended migrated"},
			{comes(&protocol.Rejoin{Call: "c2", Peer: &bob, Active: true}), "tell accept"},
			{comes(&protocol.Offer{Call: "c2", Description: sdp("offer", "bobs", "10")}), "tell offer"},
			{answerTo("Bob"), "say answer,say media"},
		},
		"the peer has a new peer connection": {
			{offerTo("Bob", "1"), "say ring"},
			{calling, "tell calling,say offer"},
			{accept, "tell accept"},
			{theirAnswer, "tell answer,say media"},
			{comes(&protocol.Offer{Call: "c1", Epoch: 1, Description: sdp("offer", "bobs", "10")}), "tell offer"},
			{theirCandidates, ""},
			{theirAnswer, ""},
			{theirOffer, ""},
			{func(h *heard) {
				h.say = func(m protocol.Message) *protocol.Error {
					if answer, ok := m.(*protocol.Answer); ok && answer.Epoch != 1 {
						t.Errorf("the answer is of peer connection %d", answer.Epoch)
					}
					return nil
				}
				answerTo("Bob")(h)
			}, ""},
		},
		"candidates before the offer": {
			{candidateTo("Bob", "old"), ""},
			{candidateTo("Bob", "mine"), ""},
			{offerTo("Bob", "1"), "say ring"},
			{calling, "tell calling,say offer,say candidate"},
		},
		"candidates for somebody else": {
			{candidateTo("Bob", "mine"), ""},
			{candidateTo("Cid", "mine"), ""},
			{offerTo("Bob", "1"), "say ring"},
			{calling, "tell calling,say offer,say candidate"},
			{candidateTo("Cid", "mine"), ""},
		},
		"people come and go": {
			{comes(&protocol.PresenceChange{Users: []protocol.User{bob}}), "tell users"},
			{comes(&protocol.PresenceChange{Users: []protocol.User{{ID: "ubob", Presence: protocol.Offline}}}), "tell users"},
			{comes(&protocol.PresenceChange{Users: []protocol.User{{ID: "ubob", Presence: protocol.Offline}}}), ""},
		},
		"the session is another one": {
			{ring, "tell ring,say ringing"},
			{func(h *heard) { h.lost() }, "tell ended lost"},
			{answerTo("Bob"), "tell error unknown_call"},
			{comes(&protocol.Rejoin{Call: "c1", Peer: &bob, Active: true}), "say hangup"},
		},
		"the session is another one before the ring is answered": {
			{offerTo("Bob", "1"), "say ring"},
			{func(h *heard) { h.lost() }, "tell ended lost"},
			{offerTo("Bob", "1"), "say ring"},
		},
		"the server does not know the call": {
			{ring, "tell ring,say ringing"},
			{comes(&protocol.Error{Call: "c1", Code: protocol.CodeUnknownCall}), "tell error unknown_call"},
			{offerTo("Bob", "1"), "say ring"},
		},
		"bad descriptions begin nothing": {
			{event("offer", map[string]any{"target": "Bob", "offer": sdp("answer", "mine", "1")}), "tell error bad_description"},
			{ring, "tell ring,say ringing"},
			{event("answer", map[string]any{"target": "Bob", "answer": sdp("offer", "mine", "1")}), "tell error bad_description"},
			{answerTo("Bob"), "say accept,say answer,say media"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeard()
			for i, r := range rows {
				h.did = nil
				r.do(h)
				if got := strings.Join(h.did, ","); got != r.did {
					t.Errorf("row %d: %q, want %q", i+1, got, r.did)
				}
			}
		})
	}
}

// Whatever the hub refuses of an event, the page is told, and the event is as good as never
// made: made again, it does what it would have done.
func TestARefusedEventChangesNothing(t *testing.T) {
	bob := protocol.User{ID: "ubob", Name: "Bob"}
	rung := []does{comes(&protocol.Ring{Call: "c1", From: &bob}), comes(&protocol.Offer{Call: "c1", Description: sdp("offer", "bobs", "9")})}
	answered := append(rung[:2:2], answerTo("Bob"))
	calling := []does{offerTo("Bob", "1"), comes(&protocol.Calling{Ref: "page1", Call: "c1", To: bob})}
	events := map[string]struct {
		before []does
		event  string
		data   map[string]any
		says   []string // what may be refused
	}{
		"offer":                  {nil, "offer", map[string]any{"target": "Bob", "offer": sdp("offer", "mine", "1")}, []string{"ring"}},
		"offer after a call":     {answered, "offer", map[string]any{"target": "Cid", "offer": sdp("offer", "mine", "7")}, []string{"hangup", "ring"}},
		"offer to who rings":     {rung, "offer", map[string]any{"target": "Bob", "offer": sdp("offer", "mine", "7")}, []string{"ring"}},
		"offer again":            {calling, "offer", map[string]any{"target": "Bob", "offer": sdp("offer", "mine", "7")}, []string{"offer"}},
		"offer in a call":        {answered, "offer", map[string]any{"target": "Bob", "offer": sdp("offer", "mine", "1")}, []string{"offer"}},
		"answer":                 {rung, "answer", map[string]any{"target": "Bob", "answer": sdp("answer", "mine", "1")}, []string{"accept", "answer"}},
		"candidate":              {answered, "candidate", map[string]any{"target": "Bob", "candidate": ice("mine")}, []string{"candidate"}},
		"candidate of a caller":  {calling, "candidate", map[string]any{"target": "Bob", "candidate": ice("mine")}, []string{"candidate"}},
		"accept":                 {rung, "accept", nil, []string{"accept"}},
		"decline":                {rung, "decline", nil, []string{"decline"}},
		"hangup":                 {answered, "hangup", nil, []string{"hangup"}},
		"hangup while it rings":  {calling, "hangup", nil, []string{"hangup"}},
		"hangup of a named call": {answered, "hangup", map[string]any{"call": "c1"}, []string{"hangup"}},
	}
	codes := []protocol.Code{
		protocol.CodeRateLimited, protocol.CodeInternal, protocol.CodeInCall, protocol.CodeSelf,
		protocol.CodeWrongState, protocol.CodeWrongSession, protocol.CodeRestarting, protocol.CodeFull,
	}
	for name, e := range events {
		for _, code := range codes {
			for _, message := range append([]string{"the event"}, e.says...) {
				t.Run(name+", "+string(code)+" for "+message, func(t *testing.T) {
					h := newHeard()
					for _, before := range e.before {
						before(h)
					}
					body, _ := json.Marshal(e.data)
					h.did = nil
					refusal := &protocol.Error{Code: code, Message: "no", Ref: "page1"}
					var refused *protocol.Error
					if message == "the event" {
						refused = h.event(e.event, body, refusal)
					} else {
						h.refuse = map[string]*protocol.Error{message: refusal}
						refused = h.event(e.event, body, nil)
					}
					if refused == nil || refused.Code != code || refused.Ref != "" {
						t.Fatalf("the event is answered with %v", refused)
					}
					if last := h.did[len(h.did)-1]; last != "tell error "+string(code) {
						t.Errorf("the page is told %q", h.did)
					}
					h.refuse, h.did = nil, nil
					if again := h.event(e.event, body, nil); again != nil {
						t.Errorf("the event made again is refused: %v", again)
					}
					if want := "say " + e.says[len(e.says)-1]; !slices.Contains(h.did, want) {
						t.Errorf("made again it leads to %q, want %q", h.did, want)
					}
				})
			}
		}
	}
}

func TestWhatAPageIsTold(t *testing.T) {
	h := newHeard()
	var got []string
	h.emit = func(event string, payload any) {
		body, _ := json.Marshal(payload)
		got = append(got, event+" "+string(body))
	}
	bob := protocol.User{ID: "ubob", Name: "Bob"}
	h.message(&protocol.Ring{Call: "c1", From: &bob, Video: true})
	h.message(&protocol.Offer{Call: "c1", Description: protocol.Description{Type: "offer", SDP: "v=0"}})
	h.message(&protocol.Elsewhere{Call: "c1", Act: "declined"})
	h.message(&protocol.Ended{Call: "c1", Reason: protocol.ReasonDeclined, By: "uann"})
	h.message(&protocol.Error{Code: protocol.CodeInternal, Message: "the server failed"})
	want := []string{
		`ring {"username":"Bob","target":"Ann","call":"c1","user":"ubob","video":true}`,
		`offer {"username":"Bob","target":"Ann","call":"c1","offer":{"type":"offer","sdp":"v=0"}}`,
		`elsewhere {"username":"Bob","target":"Ann","call":"c1","act":"declined"}`,
		`ended {"username":"Bob","target":"Ann","call":"c1","reason":"declined","by":"Ann","durationMs":0}`,
		`error {"code":"internal","message":"the server failed"}`,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got (-), want (+):\n%s", diff)
	}
}

func TestWaitingCandidatesAreBounded(t *testing.T) {
	h := newHeard()
	for range 3 * protocol.MaxCandidates {
		candidateTo("Bob", "mine")(h)
	}
	offerTo("Bob", "1")(h)
	for range 3 * protocol.MaxCandidates {
		candidateTo("Bob", "mine")(h)
	}
	if got := h.did[len(h.did)-1]; got != "tell error bad_message" {
		t.Errorf("one too many: %s", got)
	}
	h.message(&protocol.Calling{Ref: "page1", Call: "c1", To: protocol.User{ID: "ubob", Name: "Bob"}})
	for range 3 * protocol.MaxCandidates {
		h.message(&protocol.Candidates{Call: "c1", Candidates: []protocol.Candidate{ice("bobs")}})
	}
	if len(h.early) > protocol.MaxCandidates || len(h.call.theirs) > protocol.MaxCandidates {
		t.Errorf("%d and %d wait", len(h.early), len(h.call.theirs))
	}
}

// Whatever a page sends, what is said to the hub is within the protocol.
func FuzzPageEvent(f *testing.F) {
	offer, _ := json.Marshal(map[string]any{"target": "Bob", "offer": sdp("offer", "mine", "1")})
	f.Add("offer", offer)
	f.Add("answer", []byte(`{"target":"Bob","answer":{"type":"answer","sdp":"v=0"}}`))
	f.Add("candidate", []byte(`{"target":"Bob","candidate":{"candidate":"","sdpMid":null,"sdpMLineIndex":0,"usernameFragment":null}}`))
	f.Add("hangup", []byte(`null`))
	f.Fuzz(func(t *testing.T, name string, arg []byte) {
		for _, before := range []func(*heard){
			func(*heard) {},
			offerTo("Bob", "1"),
			comes(&protocol.Ring{Call: "c1", From: &protocol.User{ID: "ubob", Name: "Bob"}}),
		} {
			h := newHeard()
			before(h)
			h.say = func(m protocol.Message) *protocol.Error {
				if ring, ok := m.(*protocol.Ring); ok && len(ring.To) > protocol.MaxID {
					return nil // find's to bound
				}
				if _, _, err := protocol.Decode(protocol.Encode(m)); err != nil {
					t.Errorf("%s %s says %s: %v", name, arg, m.Type(), err)
				}
				return nil
			}
			_ = h.event(name, arg, nil)
			h.message(&protocol.Calling{Ref: "page1", Call: "c1", To: protocol.User{ID: "ubob", Name: "Bob"}})
		}
	})
}
