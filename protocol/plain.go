package protocol

import (
	"bytes"
	"strconv"
	"strings"
)

// Most of what a call sends are candidates, and most of its bytes descriptions; who is in none sends pongs. encoding/json takes
// longer over them than all the rest of the server, and leaves most of its garbage. So they are read and written here as long as they
// are plain: no white space between the tokens, only the fields that this package knows, text of printable ASCII, without escapes but
// for line ends and the like in a description. Whatever is not, encoding/json reads, which also words the errors; a fuzz target
// compares the two.

// readPlain reads a frame of plain candidates, a plain description or a pong, which no
// limit has been checked of; ok is false for any other.
func readPlain(frame []byte) (m Message, env Envelope, ok bool) {
	c := cursor{rest: frame}
	var kind string // of what the message is made
	var epoch int
	var ack uint64
	var candidates []Candidate
	var description Description
	is := func(k string) {
		c.odd = c.odd || kind != "" // encoding/json would mix them
		kind = k
	}
	c.object(func(key []byte) {
		switch string(key) {
		case "seq":
			env.Seq = c.number()
		case "type":
			env.Type = plainType(c.text())
		case "ref":
			env.Ref = string(c.text())
		case "call":
			env.Call = CallID(c.text())
		case "epoch":
			epoch = int(c.number()) //nolint:gosec // of nine digits
		case "ack":
			is("pong")
			ack = c.number()
		case "candidates":
			is("candidate")
			c.list(func() { candidates = append(candidates, c.candidate()) })
		case "description":
			is("description")
			description = c.description()
		default:
			c.odd = true
		}
	})
	if c.odd || len(c.rest) > 0 {
		return nil, Envelope{}, false
	}
	switch {
	case kind == "candidate" && env.Type == "candidate":
		return &Candidates{Call: env.Call, Epoch: epoch, Candidates: candidates}, env, true
	case kind == "description" && env.Type == "offer":
		return &Offer{Call: env.Call, Epoch: epoch, Description: description}, env, true
	case kind == "description" && env.Type == "answer":
		return &Answer{Call: env.Call, Epoch: epoch, Description: description}, env, true
	case kind == "pong" && env.Type == "pong":
		return &Pong{Ack: ack}, env, true
	}
	return nil, Envelope{}, false
}

// plainType is the type of a message that readPlain knows; empty for any other.
func plainType(text []byte) string {
	for _, known := range [...]string{"candidate", "pong", "offer", "answer"} {
		if string(text) == known {
			return known
		}
	}
	return ""
}

// writePlain is Encode of plain candidates, plain descriptions and pings; ok is false
// for any other message.
func writePlain(m Message) (frame []byte, ok bool) {
	switch m := m.(type) {
	case *Candidates:
		return m.encodePlain()
	case *Offer:
		return m.Description.encodePlain(m.Type(), m.Call, m.Epoch)
	case *Answer:
		return m.Description.encodePlain(m.Type(), m.Call, m.Epoch)
	case *Ping:
		return append(strconv.AppendUint([]byte(`{"type":"ping","ack":`), m.Ack, 10), '}'), true
	}
	return nil, false
}

// cursor reads plain JSON from the front of rest. At the first thing that is not
// plain odd is set, and nothing that was read counts.
type cursor struct {
	rest []byte
	odd  bool
}

// pass passes one byte that must be there.
func (c *cursor) pass(b byte) {
	if len(c.rest) == 0 || c.rest[0] != b {
		c.odd, c.rest = true, nil
		return
	}
	c.rest = c.rest[1:]
}

// more passes a comma, or the byte that ends an object or array.
func (c *cursor) more(end byte) bool {
	if len(c.rest) > 0 && c.rest[0] == ',' {
		c.rest = c.rest[1:]
		return !c.odd
	}
	c.pass(end)
	return false
}

func (c *cursor) object(field func(key []byte)) {
	c.pass('{')
	for more := !c.odd; more; more = c.more('}') {
		key := c.text()
		c.pass(':')
		field(key)
	}
}

func (c *cursor) list(item func()) {
	c.pass('[')
	for more := !c.odd; more; more = c.more(']') {
		item()
	}
}

// text is a string, in the frame's own bytes.
func (c *cursor) text() []byte {
	c.pass('"')
	for i, b := range c.rest {
		switch {
		case b == '"':
			text := c.rest[:i]
			c.rest = c.rest[i+1:]
			return text
		case !plain(b):
			c.odd = true
			return nil
		}
	}
	c.odd = true
	return nil
}

// plain reports whether a byte stands for itself in a JSON string.
func plain(b byte) bool { return ' ' <= b && b <= '~' && b != '"' && b != '\\' }

// escaped are the characters that a description has beside plain ones, as JSON
// writes them behind a backslash (RFC 8259 §7).
var escaped = [256]byte{'\n': 'n', '\r': 'r', '\t': 't', '"': '"', '\\': '\\'}

// unescaped is escaped the other way round, with what need not be escaped but may.
var unescaped = [256]byte{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\', '/': '/'}

// lines is a string that may have escapes.
func (c *cursor) lines() string {
	c.pass('"')
	var text strings.Builder
	if end := bytes.IndexByte(c.rest, '"'); end > 0 {
		text.Grow(end)
	}
	from := 0 // what has no escape is copied in one go
	for i := 0; i < len(c.rest); i++ {
		switch b := c.rest[i]; {
		case plain(b):
		case b == '"':
			text.Write(c.rest[from:i])
			c.rest = c.rest[i+1:]
			return text.String()
		case b == '\\' && i+1 < len(c.rest) && unescaped[c.rest[i+1]] != 0:
			text.Write(c.rest[from:i])
			i++
			text.WriteByte(unescaped[c.rest[i]])
			from = i + 1
		default:
			c.odd = true
			return ""
		}
	}
	c.odd = true
	return ""
}

// number is a natural number of at most nine digits.
func (c *cursor) number() (n uint64) {
	digits := 0
	for digits < len(c.rest) && '0' <= c.rest[digits] && c.rest[digits] <= '9' {
		n = 10*n + uint64(c.rest[digits]-'0')
		if digits++; digits > 9 {
			break
		}
	}
	if digits == 0 || digits > 9 || digits > 1 && c.rest[0] == '0' {
		c.odd = true
		return 0
	}
	c.rest = c.rest[digits:]
	return n
}

func (c *cursor) candidate() (m Candidate) {
	c.object(func(key []byte) {
		switch string(key) {
		case "candidate":
			m.Candidate = string(c.text())
		case "sdpMid":
			mid := string(c.text())
			m.SDPMid = &mid
		case "sdpMLineIndex":
			n := c.number()
			index := uint16(n)
			c.odd = c.odd || uint64(index) != n
			m.SDPMLineIndex = &index
		case "usernameFragment":
			fragment := string(c.text())
			m.UsernameFragment = &fragment
		default:
			c.odd = true
		}
	})
	return m
}

func (c *cursor) description() (d Description) {
	c.object(func(key []byte) {
		switch string(key) {
		case "type":
			d.Type = string(c.text())
		case "sdp":
			d.SDP = c.lines()
		default:
			c.odd = true
		}
	})
	return d
}

// encodePlain is Encode for a plain description in an offer or answer; ok is false
// for any other.
func (d *Description) encodePlain(kind string, call CallID, epoch int) (frame []byte, ok bool) {
	if !plainText(string(call)) || !plainText(d.Type) {
		return nil, false
	}
	escapes := 0
	for i := range len(d.SDP) {
		if b := d.SDP[i]; !plain(b) {
			if escaped[b] == 0 {
				return nil, false
			}
			escapes++
		}
	}
	frame = make([]byte, 0, 96+len(kind)+len(call)+len(d.Type)+len(d.SDP)+escapes)
	frame = appendCall(frame, kind, call, epoch)
	frame = append(append(frame, `,"description":{"type":"`...), d.Type...)
	frame = append(frame, `","sdp":"`...)
	from := 0
	for i := range len(d.SDP) {
		if b := d.SDP[i]; !plain(b) {
			frame = append(append(frame, d.SDP[from:i]...), '\\', escaped[b])
			from = i + 1
		}
	}
	frame = append(frame, d.SDP[from:]...)
	return append(frame, `"}}`...), true
}

// appendCall begins a frame about a call.
func appendCall(frame []byte, kind string, call CallID, epoch int) []byte {
	frame = append(append(frame, `{"type":"`...), kind...)
	frame = append(append(append(frame, `","call":"`...), call...), '"')
	if epoch != 0 {
		frame = strconv.AppendInt(append(frame, `,"epoch":`...), int64(epoch), 10)
	}
	return frame
}

func plainText(s string) bool {
	for i := range len(s) {
		if !plain(s[i]) {
			return false
		}
	}
	return true
}

// encodePlain is Encode for plain candidates; ok is false for any other.
func (m *Candidates) encodePlain() (frame []byte, ok bool) {
	size := 64 + len(m.Call)
	ok = true
	measure := func(s string) {
		size += len(s)
		ok = ok && plainText(s)
	}
	measure(string(m.Call))
	for i := range m.Candidates {
		c := &m.Candidates[i]
		size += 96
		measure(c.Candidate)
		if c.SDPMid != nil {
			measure(*c.SDPMid)
		}
		if c.UsernameFragment != nil {
			measure(*c.UsernameFragment)
		}
	}
	if !ok || len(m.Candidates) == 0 {
		return nil, false
	}
	frame = appendCall(make([]byte, 0, size), m.Type(), m.Call, m.Epoch)
	frame = append(frame, `,"candidates":[`...)
	for i := range m.Candidates {
		c := &m.Candidates[i]
		if i > 0 {
			frame = append(frame, ',')
		}
		frame = append(append(append(frame, `{"candidate":"`...), c.Candidate...), '"')
		if c.SDPMid != nil {
			frame = append(append(append(frame, `,"sdpMid":"`...), *c.SDPMid...), '"')
		}
		if c.SDPMLineIndex != nil {
			frame = strconv.AppendUint(append(frame, `,"sdpMLineIndex":`...), uint64(*c.SDPMLineIndex), 10)
		}
		if c.UsernameFragment != nil {
			frame = append(append(append(frame, `,"usernameFragment":"`...), *c.UsernameFragment...), '"')
		}
		frame = append(frame, '}')
	}
	return append(frame, `]}`...), true
}
