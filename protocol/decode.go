package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Limits of what a client may send.
const (
	MaxFrame      = 128 << 10 // bytes of one frame, which fits a description as JSON; who reads the connection sees to it
	MaxDepth      = 16        // nested JSON objects and arrays
	MaxSDP        = 64 << 10  // bytes of one description
	MaxCandidate  = 1 << 10   // bytes of one candidate
	MaxCandidates = 100       // candidates between two descriptions of a party
	MaxID         = 64        // bytes of an id or ref
	MaxName       = 40        // characters of a name, as people see them
	MaxToken      = 1 << 10   // bytes of a token
	MaxTicket     = 2 << 10   // bytes of a ticket
	MaxEpoch      = 1000      // peer connections of one call
)

// Envelope is what every frame may carry beside its message.
type Envelope struct {
	// Seq numbers the messages of one direction of a session from 1. A message
	// without number (0) is never sent again.
	Seq uint64 `json:"seq"`
	// Type is the message's name.
	Type string `json:"type"`
	// Ref and Call are read here too, so that an error can name them even when
	// the rest cannot be read.
	Ref  string `json:"ref"`
	Call CallID `json:"call"`
}

func (e *Envelope) check() error {
	if len(e.Ref) > MaxID || len(e.Call) > MaxID {
		return errors.New("ref or call is longer than 64 bytes")
	}
	return nil
}

// newMessage makes the empty message of each type.
var newMessage = map[string]func() Message{
	"hello":      func() Message { return new(Hello) },
	"welcome":    func() Message { return new(Welcome) },
	"presence":   func() Message { return new(PresenceChange) },
	"ring":       func() Message { return new(Ring) },
	"calling":    func() Message { return new(Calling) },
	"ringing":    func() Message { return new(Ringing) },
	"accept":     func() Message { return new(Accept) },
	"decline":    func() Message { return new(Decline) },
	"merged":     func() Message { return new(Merged) },
	"rejoin":     func() Message { return new(Rejoin) },
	"refresh":    func() Message { return new(Refresh) },
	"prefer":     func() Message { return new(Prefer) },
	"show":       func() Message { return new(Show) },
	"hangup":     func() Message { return new(Hangup) },
	"elsewhere":  func() Message { return new(Elsewhere) },
	"offer":      func() Message { return new(Offer) },
	"answer":     func() Message { return new(Answer) },
	"candidate":  func() Message { return new(Candidates) },
	"media":      func() Message { return new(Media) },
	"ended":      func() Message { return new(Ended) },
	"push":       func() Message { return new(Push) },
	"ping":       func() Message { return new(Ping) },
	"pong":       func() Message { return new(Pong) },
	"restarting": func() Message { return new(Restarting) },
	"error":      func() Message { return new(Error) },
}

// Decode reads one frame. The message is a pointer to one of this package's
// types, within all its limits but MaxFrame. An error is an [*Error] ready to be sent, with
// the frame's ref and call where those could be read.
func Decode(frame []byte) (Message, Envelope, error) {
	if m, env, ok := decodeFast(frame); ok && env.check() == nil && m.check() == nil {
		return m, env, nil
	}
	return decodeJSON(frame)
}

// decodeJSON is Decode of any frame.
func decodeJSON(frame []byte) (Message, Envelope, error) {
	var env Envelope
	if !shallow(frame) {
		return nil, env, Errorf(CodeBadMessage, "the message is nested too deeply")
	}
	if err := json.Unmarshal(frame, &env); err != nil {
		return nil, Envelope{}, Errorf(CodeBadMessage, "the frame is not a JSON object with a type")
	}
	if err := env.check(); err != nil {
		return nil, Envelope{}, Errorf(CodeBadMessage, err.Error())
	}
	fail := func(e *Error) (Message, Envelope, error) {
		e.Ref, e.Call = env.Ref, env.Call
		return nil, env, e
	}
	empty, ok := newMessage[env.Type]
	if !ok {
		return fail(Errorf(CodeUnknownType, "this server knows no message of that type"))
	}
	m := empty()
	if err := json.Unmarshal(frame, m); err != nil {
		return fail(Errorf(CodeBadMessage, "a field of "+env.Type+" is of the wrong kind"))
	}
	if refused := Check(m); refused != nil {
		return fail(refused)
	}
	return m, env, nil
}

// Check reports what breaks a limit of this package in a message that did not come as a
// frame. The error is ready to be sent; nil is a message that [Decode] would return.
func Check(m Message) *Error {
	err := m.check()
	if err == nil {
		return nil
	}
	if listed := (*Error)(nil); errors.As(err, &listed) {
		return listed
	}
	return Errorf(CodeBadMessage, m.Type()+": "+err.Error())
}

// Encode is a message as a frame without number. It fails for no message of
// this package.
func Encode(m Message) []byte {
	if frame, ok := encodeFast(m); ok {
		return frame
	}
	body := JSON(m)
	frame := make([]byte, 0, len(body)+len(m.Type())+16)
	frame = append(frame, `{"type":"`...)
	frame = append(frame, m.Type()...)
	frame = append(frame, '"')
	if !bytes.Equal(body, []byte("{}")) {
		frame = append(frame, ',')
	}
	return append(frame, body[1:]...)
}

// JSON is a value of this package's plain types as JSON. Unlike [json.Marshal] it does not escape <, > and & as
// six bytes each: what one client sends must not reach another, or wait for it, at three times its size.
func JSON(v any) []byte {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("protocol: encode %T: %v", v, err)) // unreachable: plain structs
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n"))
}

// AppendNumbered appends an encoded frame with its number to a buffer. The frame itself
// stays as it is, so that one encoding serves many sessions.
func AppendNumbered(buffer, frame []byte, seq uint64) []byte {
	buffer = append(buffer, `{"seq":`...)
	buffer = strconv.AppendUint(buffer, seq, 10)
	buffer = append(buffer, ',')
	return append(buffer, frame[1:]...)
}

// shallow reports whether JSON nests no deeper than MaxDepth, before a parser
// recurses into it.
func shallow(frame []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(frame); i++ {
		switch c := frame[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}
