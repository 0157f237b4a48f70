package protocol

import "strconv"

// Most of what a call sends are candidates, and encoding/json takes longer over one than all the rest of the server. So they
// are read and written here as long as they are plain: no white space between the tokens, only the fields that this package
// knows, text of printable ASCII without escapes. Whatever is not, encoding/json reads, which also words the errors; a fuzz
// target compares the two.

// plainCandidates reads a frame of plain candidates, which no limit has been
// checked of; ok is false for any other.
func plainCandidates(frame []byte) (read *Candidates, env Envelope, ok bool) {
	c := cursor{rest: frame}
	var m Candidates
	c.object(func(key []byte) {
		switch string(key) {
		case "seq":
			env.Seq = c.number()
		case "type":
			env.Type = "candidate"
			c.odd = string(c.text()) != env.Type || c.odd
		case "ref":
			env.Ref = string(c.text())
		case "call":
			env.Call = CallID(c.text())
		case "epoch":
			m.Epoch = int(c.number())
		case "candidates":
			c.odd = c.odd || m.Candidates != nil // encoding/json would mix them
			c.list(func() { m.Candidates = append(m.Candidates, c.candidate()) })
		default:
			c.odd = true
		}
	})
	if c.odd || len(c.rest) > 0 || env.Type == "" {
		return nil, Envelope{}, false
	}
	m.Call = env.Call
	return &m, env, true
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

// encodePlain is Encode for plain candidates; ok is false for any other.
func (m *Candidates) encodePlain() (frame []byte, ok bool) {
	size := 64 + len(m.Call)
	ok = true
	measure := func(s string) {
		size += len(s)
		for i := range len(s) {
			ok = ok && plain(s[i])
		}
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
	frame = append(make([]byte, 0, size), `{"type":"candidate","call":"`...)
	frame = append(append(frame, m.Call...), '"')
	if m.Epoch != 0 {
		frame = strconv.AppendInt(append(frame, `,"epoch":`...), int64(m.Epoch), 10)
	}
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
