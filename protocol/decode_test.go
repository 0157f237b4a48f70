package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// examples are the golden files: one line of JSON for each message, as it
// stands in PROTOCOL.md.
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
			again = Number(again, env.Seq)
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
	for name, frame := range examples(t) {
		if !bytes.Contains(doc, bytes.TrimSpace(frame)) {
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
		{"two fingerprints", string(offerFrame(goodSDP + "a=fingerprint:sha-256 EF:01\r\n")), CodeBadDescription},
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
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatalf("%s changes when encoded (-first +again):\n%s", m.Type(), diff)
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
