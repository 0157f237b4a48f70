package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// examples are the golden files: one line of JSON for each message. PROTOCOL.md shows each, long ones over
// several lines.
func examples(t testing.TB) map[string][]byte {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		frame, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".json")] = frame
	}
	return all
}

func TestEveryMessageHasAnExampleThatSurvives(t *testing.T) {
	seen := map[string]bool{}
	for name, frame := range examples(t) {
		m, env, err := Decode(frame)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		seen[m.Type()] = true
		if got, _, _ := strings.Cut(name, "-"); got != m.Type() {
			t.Errorf("%s.json holds a message of type %q", name, m.Type())
		}
		again := Encode(m)
		if env.Seq != 0 {
			again = AppendNumbered(nil, again, env.Seq)
		}
		if diff := cmp.Diff(anyJSON(t, frame), anyJSON(t, again)); diff != "" {
			t.Errorf("%s: decoded and encoded again (-file +again):\n%s", name, diff)
		}
	}
	for typ := range newMessage {
		if !seen[typ] {
			t.Errorf("testdata has no example of %q", typ)
		}
	}
}

func TestProtocolDocumentShowsEveryExampleAndCode(t *testing.T) {
	doc, err := os.ReadFile("../PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := shownJSON(t, doc)
	for name, frame := range examples(t) {
		if !shown[compact(t, frame)] {
			t.Errorf("PROTOCOL.md does not show testdata/%s.json as it is", name)
		}
	}
	source, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		before, after, ok := strings.Cut(line, `= "`)
		if !ok || !strings.Contains(before, "Code ") && !strings.Contains(before, "EndReason") {
			continue
		}
		word, _, _ := strings.Cut(after, `"`)
		if !bytes.Contains(doc, []byte("`"+word+"`")) {
			t.Errorf("PROTOCOL.md does not list the code %q", word)
		}
	}
}

// shownJSON are the values in the JSON blocks of a document, without white space.
func shownJSON(t *testing.T, doc []byte) map[string]bool {
	t.Helper()
	shown := map[string]bool{}
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(doc, -1) {
		for values := json.NewDecoder(bytes.NewReader(block[1])); values.More(); {
			var value json.RawMessage
			if err := values.Decode(&value); err != nil {
				t.Fatalf("a block of PROTOCOL.md: %v\n%s", err, block[1])
			}
			shown[compact(t, value)] = true
		}
	}
	return shown
}

func compact(t *testing.T, value []byte) string {
	t.Helper()
	var text bytes.Buffer
	if err := json.Compact(&text, value); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

const goodSDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
	"a=fingerprint:sha-256 AB:CD\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"

func offerFrame(sdp string) []byte {
	return Encode(&Offer{Call: "n1-x", Description: Description{Type: "offer", SDP: sdp}})
}

func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		name, frame string
		want        Code
	}{
		{"nothing", ``, CodeBadMessage},
		{"half an object", `{"type":"ring"`, CodeBadMessage},
		{"an array", `["ring"]`, CodeBadMessage},
		{"a number", `7`, CodeBadMessage},
		{"null", `null`, CodeUnknownType},
		{"no type", `{}`, CodeUnknownType},
		{"another type", `{"type":"dance"}`, CodeUnknownType},
		{"type is a number", `{"type":1}`, CodeBadMessage},
		{"negative seq", `{"type":"ring","seq":-1}`, CodeBadMessage},
		{"too deep", `{"type":"ring","to":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, CodeBadMessage},
		{"ring nobody", `{"type":"ring"}`, CodeBadMessage},
		{"ring a long id", `{"type":"ring","to":"` + strings.Repeat("x", 65) + `"}`, CodeBadMessage},
		{"long ref", `{"type":"ring","to":"u","ref":"` + strings.Repeat("x", 65) + `"}`, CodeBadMessage},
		{"accept nothing", `{"type":"accept"}`, CodeBadMessage},
		{"old version", `{"type":"hello","version":0}`, CodeVersion},
		{"long name", `{"type":"hello","version":1,"name":"` + strings.Repeat("x", 999) + `"}`, CodeBadName},
		{"media without shade", `{"type":"media","call":"c","connection":"fine"}`, CodeBadMessage},
		{"a push without state", `{"type":"push","call":"c","from":{"id":"u","name":"U"}}`, CodeBadMessage},
		{"a push from nobody", `{"type":"push","call":"c","state":"ringing"}`, CodeBadMessage},
		{"a push of no call", `{"type":"push","state":"ended","from":{"id":"u","name":"U"}}`, CodeBadMessage},
		{"a push that rings backwards", `{"type":"push","call":"c","state":"ringing","ringMs":-1,"from":{"id":"u","name":"U"}}`, CodeBadMessage},
		{"no candidates", `{"type":"candidate","call":"c","candidates":[]}`, CodeBadMessage},
		{"candidate is text", `{"type":"candidate","call":"c","candidates":["x"]}`, CodeBadMessage},
		{"candidate with a line break", `{"type":"candidate","call":"c","candidates":[{"candidate":"a\r\nb"}]}`, CodeBadMessage},
		{"long candidate", `{"type":"candidate","call":"c","candidates":[{"candidate":"` + strings.Repeat("x", 2000) + `"}]}`, CodeBadMessage},
		{"101 candidates", `{"type":"candidate","call":"c","candidates":[` + strings.Repeat(`{"candidate":""},`, 100) + `{"candidate":""}]}`, CodeBadMessage},
		{"an answer in an offer", `{"type":"offer","call":"c","description":{"type":"answer","sdp":"v=0"}}`, CodeBadDescription},
		{"no SDP", string(offerFrame("hello")), CodeBadDescription},
		{"plain RTP", string(offerFrame(strings.Replace(goodSDP, "UDP/TLS/RTP/SAVPF", "RTP/AVP", 1))), CodeBadDescription},
		{"SDES", string(offerFrame(goodSDP + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n")), CodeBadDescription},
		{"sha-1", string(offerFrame(strings.Replace(goodSDP, "sha-256", "sha-1", 1))), CodeBadDescription},
		{"two certificates", string(offerFrame(goodSDP + "a=fingerprint:sha-256 EF:01\r\n")), CodeBadDescription},
		{"no fingerprint", string(offerFrame(strings.Replace(goodSDP, "a=fingerprint", "a=x", 1))), CodeBadDescription},
		{"no media", string(offerFrame(strings.Replace(goodSDP, "m=audio", "x=audio", 1))), CodeBadDescription},
		{"huge SDP", string(offerFrame(goodSDP + strings.Repeat("a=x\r\n", MaxSDP/5))), CodeBadDescription},
	}
	for _, test := range tests {
		_, _, err := Decode([]byte(test.frame))
		var listed *Error
		if !errors.As(err, &listed) || listed.Code != test.want {
			t.Errorf("%s: got %v, want code %s", test.name, err, test.want)
		}
	}
	if _, _, err := Decode(offerFrame(goodSDP)); err != nil {
		t.Errorf("a good offer: %v", err)
	}
}

// A refused description says which line is wrong and what would be right.
func TestWhichDescriptionsAreTaken(t *testing.T) {
	const (
		head    = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
		audio   = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
		data    = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
		sha1    = "a=fingerprint:sha-1 01:02\r\n"
		sha256  = "a=fingerprint:sha-256 AB:CD\r\n"
		sha384  = "a=fingerprint:sha-384 12:34\r\n"
		sha512  = "a=fingerprint:SHA-512 56:78\r\n"
		another = "a=fingerprint:sha-512 9A:BC\r\n"
	)
	for _, c := range []struct{ name, sdp, refused string }{
		{"several hashes in a section, as aiortc has them", head + audio + sha256 + sha384 + sha512, ""},
		{"several hashes for the session", head + sha256 + sha384 + sha512 + audio + data, ""},
		{"a weak hash beside a strong one", head + audio + sha1 + sha512, ""},
		{"a hash of its own in each section", head + audio + sha256 + data + sha256 + sha512, ""},
		{"a rejected section without DTLS", head + audio + sha256 + "m=video 0 RTP/AVP 31\r\na=crypto:1 AES x\r\na=fingerprint:sha-256 00\r\n", ""},
		{"everything rejected", head + "m=audio 0 RTP/AVP 0\r\n", ""},
		{"a bundle-only section", head + audio + sha256 + "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=bundle-only\r\n" + sha256, ""},
		{"a large one", head + audio + sha256 + strings.Repeat("a=x\r\n", 13000), ""},

		{
			"a bundle-only section without DTLS", head + audio + sha256 + "m=video 0 RTP/AVP 31\r\na=bundle-only\r\n",
			"line 7 of the description: m=video by RTP/AVP is not encrypted with DTLS; use UDP/TLS/RTP/SAVPF or UDP/DTLS/SCTP",
		},
		{
			"no DTLS", head + sha256 + "m=audio 5004 RTP/AVP 0\r\n",
			"line 6 of the description: m=audio by RTP/AVP is not encrypted with DTLS; use UDP/TLS/RTP/SAVPF or UDP/DTLS/SCTP",
		},
		{
			"only a weak hash", head + audio + sha1,
			"line 5 of the description: m=audio has no fingerprint; sha-256, sha-384 or sha-512 is needed, and not only sha-1",
		},
		{
			"one section without fingerprint", head + audio + sha256 + data,
			"line 7 of the description: m=application has no fingerprint; sha-256, sha-384 or sha-512 is needed",
		},
		{
			"two certificates", head + audio + sha512 + data + another,
			"line 8 of the description: another sha-512 fingerprint than on line 6; a description has one certificate",
		},
		{
			"two certificates, one for the session", head + sha512 + audio + another,
			"line 7 of the description: another sha-512 fingerprint than on line 5; a description has one certificate",
		},
		{
			"keys", head + audio + sha256 + "a=crypto:1 AES x\r\n",
			"line 7 of the description: a=crypto is refused: keys come from DTLS, not from the description",
		},
		{
			"keys for the session", head + "a=crypto:1 AES x\r\n" + audio + sha256,
			"line 5 of the description: a=crypto is refused: keys come from DTLS, not from the description",
		},
		{
			"half a section", head + sha256 + "m=audio\r\n",
			"line 6 of the description: a media section has a kind, a port and a transport",
		},
		{"no section", head + sha256, "the description has no media section (m=)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := offerFrame(c.sdp)
			if len(frame) > MaxFrame {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
			_, _, err := Decode(frame)
			var listed *Error
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" && (!errors.As(err, &listed) || listed.Code != CodeBadDescription || listed.Message != c.refused):
				t.Errorf("got %v, want %s", err, c.refused)
			}
		})
	}
}

// What a client sends is kept for its peer, so it must not grow on its way.
func TestEncodingIsNoLongerThanWhatCame(t *testing.T) {
	for _, text := range []string{strings.Repeat("<>&", 1000), "ä" + strings.Repeat("<>&", 1000)} {
		for _, m := range []Message{
			&Offer{Description: Description{Type: "offer", SDP: text}},
			&Candidates{Candidates: []Candidate{{Candidate: text}}},
			&Ring{From: &User{Name: text}},
			&Error{Message: text},
		} {
			if frame := Encode(m); len(frame) > len(text)+256 {
				t.Errorf("%s of %d bytes became a frame of %d", m.Type(), len(text), len(frame))
			}
		}
	}
}

func TestErrorNamesWhatItAnswers(t *testing.T) {
	_, _, err := Decode([]byte(`{"type":"media","call":"n1-x","ref":"7","connection":1}`))
	var listed *Error
	if !errors.As(err, &listed) || listed.Ref != "7" || listed.Call != "n1-x" {
		t.Errorf("got %+v, want ref 7 and call n1-x", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, frame := range examples(f) {
		f.Add(frame)
	}
	f.Add(offerFrame(goodSDP))
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, _, err := Decode(frame)
		if err != nil {
			if listed := (*Error)(nil); !errors.As(err, &listed) || listed.Code == "" {
				t.Fatalf("not a listed error: %v", err)
			}
			return
		}
		again, _, err := Decode(Encode(m))
		if err != nil {
			t.Fatalf("%s does not survive: %v", m.Type(), err)
		}
		// An empty list and no list say the same.
		if diff := cmp.Diff(m, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s changes when encoded (-first +again):\n%s", m.Type(), diff)
		}
	})
}

// fastExamples are frames that the fast path takes. The golden files end with a line break, which is removed.
func fastExamples(t testing.TB) []string {
	golden := func(name string) string { return strings.TrimSpace(string(examples(t)[name])) }
	return []string{
		golden("candidate"), golden("offer"), golden("offer-reload"), golden("answer"), golden("pong"), string(offerFrame(goodSDP)),
		`{"type":"candidate","call":"c","candidates":[{"candidate":""}]}`,
		`{"candidates":[{"usernameFragment":"u","sdpMLineIndex":65535,"sdpMid":"","candidate":"a"}],"epoch":12,"ref":"r","call":"c","type":"candidate","seq":999999999}`,
		`{"description":{"sdp":"","type":"answer"},"epoch":3,"ref":"r","call":"c","type":"answer","seq":1}`,
		`{"type":"offer","call":"c","description":{"type":"","sdp":"\r\n\t\"\\\/ end"}}`,
	}
}

// slowExamples are frames that resemble those of the fast path, but are left to encoding/json.
var slowExamples = []string{
	``, `{`, `{}`, `{"type":"candidate"`, `{"type":"candidate"}x`, `{"type":"candidate",}`, `["candidate"]`,
	`{"type":"candidate","call":"c","candidates":[]}`,
	`{"type":"candidate","call":"c","candidates":[{}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a",}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a"}}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a\u0041"}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"ä"}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a","more":1}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a","sdpMid":null}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a","sdpMLineIndex":65536}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a","sdpMLineIndex":01}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a","sdpMLineIndex":-1}]}`,
	`{"type":"candidate","call":"c","candidates":[{"candidate":"a","sdpMid":"0"}],"candidates":[{"candidate":"b"}]}`,
	`{"type":"candidate","seq":1.5,"call":"c","candidates":[{"candidate":"a"}]}`,
	`{"type":"candidate","seq":12345678901,"call":"c","candidates":[{"candidate":"a"}]}`,
	`{"type":"candidate", "call":"c","candidates":[{"candidate":"a"}]}`,
	`{"type":"accept","call":"c","candidates":[{"candidate":"a"}]}`,
	`{"call":"c","candidates":[{"candidate":"a"}]}`,
	`{"type":"pong"}`, `{"type":"ping","ack":1}`, `{"type":"pong","ack":1,"ack":2}`, `{"type":"pong","ack":-1}`,
	`{"type":"candidate","ack":1}`, `{"type":"candidate","call":"c","candidates":[{"candidate":"a"}],"ack":1}`,
	`{"type":"offer","call":"c"}`,
	`{"type":"offer","call":"c","candidates":[{"candidate":"a"}]}`,
	`{"type":"candidate","call":"c","description":{"type":"offer","sdp":"v=0"}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0"},"candidates":[{"candidate":"a"}]}`,
	`{"type":"offer","call":"c","description":{"type":"offer"},"description":{"sdp":"v=0"}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0","more":1}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0\u000a"}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0\b"}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0\"}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"v=0` + "\n" + `"}}`,
	`{"type":"offer","call":"c","description":{"type":"offer","sdp":"ä"}}`,
	`{"type":"offer","call":"c","description":null}`,
}

func TestFastPath(t *testing.T) {
	for _, frame := range fastExamples(t) {
		m, _, ok := decodeFast([]byte(frame))
		if !ok {
			t.Errorf("not taken by the fast path: %s", frame)
			continue
		}
		if _, ok := encodeFast(m); !ok && m.Type() != "pong" {
			t.Errorf("not written by the fast path: %s", frame)
		}
	}
	for _, frame := range slowExamples {
		if _, _, ok := decodeFast([]byte(frame)); ok {
			t.Errorf("taken by the fast path: %s", frame)
		}
	}
	for _, odd := range []string{"a\"b", `a\b`, "a\nb", "ä", "\xff", "\x7f"} {
		for i, m := range []Message{
			&Candidates{Call: CallID(odd), Candidates: []Candidate{{}}},
			&Candidates{Candidates: []Candidate{{Candidate: odd}}},
			&Candidates{Candidates: []Candidate{{SDPMid: &odd}}},
			&Candidates{Candidates: []Candidate{{UsernameFragment: &odd}}},
			&Offer{Call: CallID(odd)},
			&Answer{Description: Description{Type: odd}},
		} {
			if frame, ok := encodeFast(m); ok {
				t.Errorf("%q in field %d was written by the fast path: %s", odd, i, frame)
			}
		}
	}
	for _, odd := range []string{"ä", "\xff", "\x7f", "\x00", "\b"} {
		if frame, ok := encodeFast(&Offer{Description: Description{SDP: odd}}); ok {
			t.Errorf("%q in a description was written by the fast path: %s", odd, frame)
		}
	}
}

// FuzzFastPath compares the results of the fast path with those of encoding/json.
func FuzzFastPath(f *testing.F) {
	for _, frame := range fastExamples(f) {
		f.Add([]byte(frame))
	}
	for _, frame := range slowExamples {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, env, ok := decodeFast(frame)
		if !ok || env.check() != nil || m.check() != nil {
			return
		}
		want, wantEnv, err := decodeJSON(frame)
		if err != nil {
			t.Fatalf("only the fast path takes it: %v", err)
		}
		if diff := cmp.Diff(want, m); diff != "" || env != wantEnv {
			t.Fatalf("read differently (-json +fast): %+v, %+v\n%s", wantEnv, env, diff)
		}
		if m.Type() == "pong" {
			return // the server writes none
		}
		written, ok := encodeFast(m)
		if !ok {
			t.Fatal("the fast path does not write what it has read")
		}
		again, _, err := decodeJSON(written)
		if err != nil {
			t.Fatalf("encoding/json does not take what was written: %v", err)
		}
		if diff := cmp.Diff(want, again); diff != "" {
			t.Fatalf("written differently (-first +again):\n%s", diff)
		}
	})
}

func anyJSON(t *testing.T, frame []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(frame, &v); err != nil {
		t.Fatalf("%s: %v", frame, err)
	}
	return v
}

func BenchmarkPlain(b *testing.B) {
	for _, name := range []string{"candidate", "offer"} {
		frame := bytes.TrimSpace(examples(b)[name])
		if name == "offer" {
			frame = offerFrame(goodSDP + strings.Repeat("a=rtcp-fb:96 transport-cc\r\n", 180)) // as long as a browser's
		}
		m, _, err := Decode(frame)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("Decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = Decode(frame)
			}
		})
		b.Run("Encode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Encode(m)
			}
		})
	}
}
