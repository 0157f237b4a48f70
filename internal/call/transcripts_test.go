package call

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/protocol"
)

// transcript is a whole call as all its sessions see it; the README beside the
// files says what each field means. The SDK's tests play the sessions of the same
// files, against a server that says what stands there.
type transcript struct {
	About    string               `json:"about"`
	Early    bool                 `json:"early,omitempty"`
	Sessions []protocol.SessionID `json:"sessions"` // those that are there from the start
	Steps    []transcriptStep     `json:"steps"`
	Records  []recorded           `json:"records"`
}

// transcriptStep is one step of a transcript: an act, an event, or a message that a session receives.
type transcriptStep struct {
	Session protocol.SessionID `json:"session,omitempty"`
	Does    json.RawMessage    `json:"does,omitempty"` // only the SDK's tests use it
	Sends   json.RawMessage    `json:"sends,omitempty"`
	Hears   json.RawMessage    `json:"hears,omitempty"`
	Happens string             `json:"happens,omitempty"`
	Of      protocol.SessionID `json:"of,omitempty"`
	PassMs  int64              `json:"passMs,omitempty"`
	// The SDK's state and event after it.
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
	Code   string `json:"code,omitempty"`
}

// recorded is one record of a transcript's calls.
type recorded struct {
	Call       string             `json:"call"`
	Caller     protocol.UserID    `json:"caller"`
	Callee     protocol.UserID    `json:"callee"`
	Reason     protocol.EndReason `json:"reason"`
	DurationMs int64              `json:"durationMs"`
}

// text is the transcript as its file has it: one line for each step.
func (tr *transcript) text(t *testing.T) string {
	t.Helper()
	line := func(v any) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(b.String(), "\n")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  \"about\": %s,\n", line(tr.About))
	if tr.Early {
		b.WriteString("  \"early\": true,\n")
	}
	fmt.Fprintf(&b, "  \"sessions\": %s,\n  \"steps\": [", line(tr.Sessions))
	for i, s := range tr.Steps {
		b.WriteString(strings.Repeat(",", min(i, 1)) + "\n    " + line(s))
	}
	b.WriteString("\n  ],\n  \"records\": [")
	for i, r := range tr.Records {
		b.WriteString(strings.Repeat(",", min(i, 1)) + "\n    " + line(r))
	}
	b.WriteString("\n  ]\n}\n")
	return b.String()
}

// transcriptPlayer is a fakeHub that plays a transcript and notes what its sessions receive.
type transcriptPlayer struct {
	*fakeHub
	heard []transcriptStep // guarded by fakeRouter.mu, as all below
	// names maps the call ids and tickets of this run to their names in a file.
	names  map[string]string
	counts map[string]int
}

func newTranscriptPlayer(t *testing.T, early bool) *transcriptPlayer {
	p := &transcriptPlayer{fakeHub: &fakeHub{early: early}, names: map[string]string{}, counts: map[string]int{}}
	p.onSend = func(s protocol.SessionID, m protocol.Message) {
		p.heard = append(p.heard, transcriptStep{Session: s, Hears: p.writeLocked(m)})
	}
	p.restart(t, "secret")
	return p
}

// fileSDP stands in the files for any description, transcriptSDP for it in the
// server: one that passes its checks.
const (
	fileSDP       = `"sdp":"SDP"`
	transcriptSDP = `"sdp":"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AB:CD\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n"`
)

// writeLocked returns a message of the server as a file has it.
func (p *transcriptPlayer) writeLocked(m protocol.Message) json.RawMessage {
	switch m := m.(type) {
	case *protocol.Calling:
		p.nameLocked("call", string(m.Call))
	case *protocol.Ring:
		p.nameLocked("call", string(m.Call))
	case *protocol.Ended:
		p.nameLocked("call", string(m.Next))
	case *protocol.Accept:
		p.nameLocked("ticket", m.Ticket)
	case *protocol.Merged:
		p.nameLocked("ticket", m.Ticket)
	case *protocol.Rejoin:
		p.nameLocked("call", string(m.Call))
		p.nameLocked("ticket", m.Ticket)
	}
	text := string(protocol.Encode(m))
	for real, name := range p.names {
		text = strings.ReplaceAll(text, `"`+real+`"`, `"`+name+`"`)
	}
	return json.RawMessage(strings.ReplaceAll(text, transcriptSDP, fileSDP))
}

// nameLocked gives a new id or ticket a name: call1, call2, ticket1 …
func (p *transcriptPlayer) nameLocked(kind, real string) {
	if real == "" || p.names[real] != "" {
		return
	}
	p.counts[kind]++
	p.names[real] = fmt.Sprint(kind, p.counts[kind])
}

// read returns a message of a client from a file. The server must understand every field of it.
func (p *transcriptPlayer) read(t *testing.T, written json.RawMessage) protocol.Message {
	t.Helper()
	text := strings.ReplaceAll(string(written), fileSDP, transcriptSDP)
	p.mu.Lock()
	for real, name := range p.names {
		text = strings.ReplaceAll(text, `"`+name+`"`, `"`+real+`"`)
	}
	p.mu.Unlock()
	m, _, err := protocol.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	var sent, understood any
	for v, from := range map[*any][]byte{&sent: []byte(text), &understood: protocol.Encode(m)} {
		if err := json.Unmarshal(from, v); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(sent, understood); diff != "" {
		t.Errorf("%s is not what the server understands (-sent +understood):\n%s", written, diff)
	}
	return m
}

// play does a step that is not a received message.
func (p *transcriptPlayer) play(t *testing.T, s transcriptStep) {
	t.Helper()
	switch {
	case s.PassMs > 0:
		pass(protocol.Duration(s.PassMs))
	case s.Sends != nil:
		p.says(s.Session, p.read(t, s.Sends))
	case s.Happens != "":
		p.happens(t, s)
	}
	synctest.Wait()
}

// since returns the messages received since its last call.
func (p *transcriptPlayer) since() []transcriptStep {
	p.mu.Lock()
	defer p.mu.Unlock()
	heard := p.heard
	p.heard = nil
	return heard
}

func (p *transcriptPlayer) recorded() []recorded {
	all := []recorded{}
	for _, r := range p.ended() {
		all = append(all, recorded{p.names[string(r.Call)], r.Caller.ID, r.Callee.ID, r.Reason, r.Duration().Milliseconds()})
	}
	return all
}

// replayed returns the transcript with the acts of the sessions from the file, and the messages that they
// receive from the switchboard. It keeps the SDK's results from the file.
func (tr *transcript) replayed(t *testing.T) *transcript {
	p := newTranscriptPlayer(t, tr.Early)
	for _, s := range tr.Sessions {
		p.open(s)
	}
	again := &transcript{About: tr.About, Early: tr.Early, Sessions: tr.Sessions}
	for i := 0; i < len(tr.Steps); {
		act := tr.Steps[i]
		var written []transcriptStep
		if act.Hears == nil {
			i++
			p.play(t, act)
			again.Steps = append(again.Steps, act)
		}
		for ; i < len(tr.Steps) && tr.Steps[i].Hears != nil; i++ {
			written = append(written, tr.Steps[i])
		}
		for _, heard := range p.since() {
			for j, old := range written {
				if old.Session == heard.Session && typeOf(old.Hears) == typeOf(heard.Hears) {
					heard.State, heard.Reason, heard.By, heard.Code = old.State, old.Reason, old.By, old.Code
					written = slices.Delete(written, j, j+1)
					break
				}
			}
			again.Steps = append(again.Steps, heard)
		}
	}
	again.Records = p.recorded()
	return again
}

func typeOf(m json.RawMessage) string {
	var env protocol.Envelope
	_ = json.Unmarshal(m, &env)
	return env.Type
}

// TestTranscripts plays what each session sends, in calls from ring to end, and
// compares all that they hear; go test ./internal/call -run TestTranscripts
// -update writes that into the files.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("../../protocol/testdata/calls/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("there are no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			written, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := json.NewDecoder(bytes.NewReader(written))
			d.DisallowUnknownFields()
			tr := new(transcript)
			if err := d.Decode(tr); err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) {
				got = tr.replayed(t).text(t)
			})
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := strings.Split(string(written), "\n")
			if diff := cmp.Diff(want, strings.Split(got, "\n")); diff != "" {
				t.Errorf("the server plays it another way (-file +server); -update writes it:\n%s", diff)
			}
		})
	}
}
