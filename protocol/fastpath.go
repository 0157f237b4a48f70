package protocol

import (
	"bytes"
	"strconv"
	"strings"
)

// This file is a fast path around encoding/json. Most messages of a call are candidates, and most of its bytes are
// descriptions. An idle session sends pongs. For these messages encoding/json takes more time than all the rest of the
// server, and produces most of its garbage.
//
// The fast path takes a frame that meets these conditions:
//   - It has no white space between the tokens.
//   - It has only fields that this package knows.
//   - Its strings are printable ASCII. Only the SDP of a description may have escapes (see escaped, unescaped).
//
// encoding/json decodes every other frame, and words all errors. FuzzFastPath compares the two.

// decodeFast decodes a frame of candidates, an offer, an answer or a pong. It checks no
// limits. ok is false if the fast path does not take the frame.
func decodeFast(frame []byte) (m Message, env Envelope, ok bool) {
	c := cursor{rest: frame}
	var kind string // the type of message that the fields belong to
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
			env.Type = fastType(c.text())
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

// fastType returns text as a string without allocating, if decodeFast knows that message type. Otherwise it returns "".
func fastType(text []byte) string {
	for _, known := range [...]string{"candidate", "pong", "offer", "answer"} {
		if string(text) == known {
			return known
		}
	}
	return ""
}

// encodeFast is Encode for candidates, offers, answers and pings. ok is false if the fast
// path does not take the message.
func encodeFast(m Message) (frame []byte, ok bool) {
	switch m := m.(type) {
	case *Candidates:
		return m.encodeFast()
	case *Offer:
		return m.Description.encodeFast(m.Type(), m.Call, m.Epoch)
	case *Answer:
		return m.Description.encodeFast(m.Type(), m.Call, m.Epoch)
	case *Ping:
		return append(strconv.AppendUint([]byte(`{"type":"ping","ack":`), m.Ack, 10), '}'), true
	}
	return nil, false
}

// cursor reads JSON from the front of rest. It sets odd at the first byte that the fast
// path does not take. All results are then invalid.
type cursor struct {
	rest []byte
	odd  bool
}

// pass consumes b. It sets odd if b is not the next byte.
func (c *cursor) pass(b byte) {
	if len(c.rest) == 0 || c.rest[0] != b {
		c.odd, c.rest = true, nil
		return
	}
	c.rest = c.rest[1:]
}

// more consumes a comma and returns true, or consumes end, the byte that ends an object or array, and returns false.
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

// text reads a string without escapes. The result aliases the frame.
func (c *cursor) text() []byte {
	c.pass('"')
	for i, b := range c.rest {
		switch {
		case b == '"':
			text := c.rest[:i]
			c.rest = c.rest[i+1:]
			return text
		case !isLiteral(b):
			c.odd = true
			return nil
		}
	}
	c.odd = true
	return nil
}

// isLiteral reports whether a byte is printable ASCII that a JSON string has without an escape.
func isLiteral(b byte) bool { return ' ' <= b && b <= '~' && b != '"' && b != '\\' }

// escaped maps the other characters that a description may have to their letter after the
// backslash (RFC 8259 §7).
var escaped = [256]byte{'\n': 'n', '\r': 'r', '\t': 't', '"': '"', '\\': '\\'}

// unescaped is the reverse of escaped. It also has the slash, which JSON may escape.
var unescaped = [256]byte{'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\', '/': '/'}

// lines reads a string that may have escapes.
func (c *cursor) lines() string {
	c.pass('"')
	var text strings.Builder
	if end := bytes.IndexByte(c.rest, '"'); end > 0 {
		text.Grow(end)
	}
	from := 0 // what has no escape is copied in one go
	for i := 0; i < len(c.rest); i++ {
		switch b := c.rest[i]; {
		case isLiteral(b):
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

// encodeFast is Encode for an offer or answer with description d. ok is false if the fast
// path does not take it.
func (d *Description) encodeFast(kind string, call CallID, epoch int) (frame []byte, ok bool) {
	if !isUnescaped(string(call)) || !isUnescaped(d.Type) {
		return nil, false
	}
	escapes := 0
	for i := range len(d.SDP) {
		if b := d.SDP[i]; !isLiteral(b) {
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
		if b := d.SDP[i]; !isLiteral(b) {
			frame = append(append(frame, d.SDP[from:i]...), '\\', escaped[b])
			from = i + 1
		}
	}
	frame = append(frame, d.SDP[from:]...)
	return append(frame, `"}}`...), true
}

// appendCall appends the beginning of a frame about a call.
func appendCall(frame []byte, kind string, call CallID, epoch int) []byte {
	frame = append(append(frame, `{"type":"`...), kind...)
	frame = append(append(append(frame, `","call":"`...), call...), '"')
	if epoch != 0 {
		frame = strconv.AppendInt(append(frame, `,"epoch":`...), int64(epoch), 10)
	}
	return frame
}

// isUnescaped reports whether a JSON string has s without escapes and in ASCII.
func isUnescaped(s string) bool {
	for i := range len(s) {
		if !isLiteral(s[i]) {
			return false
		}
	}
	return true
}

// encodeFast is Encode for candidates. ok is false if the fast path does not take them.
func (m *Candidates) encodeFast() (frame []byte, ok bool) {
	size := 64 + len(m.Call)
	ok = true
	measure := func(s string) {
		size += len(s)
		ok = ok && isUnescaped(s)
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
