package protocol

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

var (
	errNoCall = errors.New("call is missing")
	errID     = errors.New("an id is missing or longer than 64 bytes")
)

func checkCall(id CallID) error {
	if id == "" || len(id) > MaxID {
		return errNoCall
	}
	return nil
}

func (m *Hello) check() error {
	if m.Version != Version {
		return Errorf(CodeVersion, fmt.Sprintf("this server speaks version %d of the protocol", Version))
	}
	if len(m.PresenceAt) > MaxID {
		return errors.New("presenceAt is longer than 64 bytes")
	}
	if len(m.Token) > MaxToken || len(m.Resume) > MaxToken {
		return errors.New("a token is longer than 1 KiB")
	}
	if err := checkDevice(m.Device); err != nil {
		return err
	}
	if len(m.Name) > 8*MaxName {
		return Errorf(CodeBadName, "the name is longer than 320 bytes; choose a shorter one")
	}
	if m.WhenBusy == "" {
		return nil
	}
	return m.WhenBusy.check()
}

func (w WhenBusy) check() error {
	if w != CallWaiting && w != AnswerBusy {
		return errors.New("whenBusy is neither waiting nor busy")
	}
	return nil
}

func (m *Show) check() error { return checkDevice(m.Device) }

func checkDevice(device string) error {
	if len(device) > MaxID {
		return errors.New("device is longer than 64 bytes")
	}
	return nil
}

func (m *Prefer) check() error { return m.WhenBusy.check() }

func (m *Merged) check() error { return checkCall(m.Call) }

func (m *Rejoin) check() error {
	fromServer := m.Peer != nil
	if m.Ticket == "" && !fromServer || len(m.Ticket) > MaxTicket {
		return errors.New("ticket is missing or longer than 2 KiB")
	}
	return checkCall(m.Call)
}

func checkEpoch(epoch int) error {
	if epoch < 0 || epoch > MaxEpoch {
		return errors.New("epoch is not from 0 to 1000")
	}
	return nil
}

func (m *Welcome) check() error        { return checkID(string(m.Session)) }
func (m *PresenceChange) check() error { return checkID(m.At) }

func (m *Ring) check() error {
	if m.Call != "" { // from the server
		if m.From == nil {
			return errors.New("from is missing")
		}
		return nil
	}
	return checkID(string(m.To))
}

func (m *Calling) check() error { return checkCall(m.Call) }
func (m *Refresh) check() error { return checkCall(m.Call) }
func (m *Ringing) check() error { return checkCall(m.Call) }
func (m *Accept) check() error  { return checkCall(m.Call) }
func (m *Decline) check() error { return checkCall(m.Call) }

func (m *Hangup) check() error {
	if m.AgoMs < 0 {
		return errors.New("agoMs is less than 0")
	}
	return errors.Join(checkCall(m.Call), m.Detail.check())
}

func (m *Elsewhere) check() error {
	if m.Act != ActAccepted && m.Act != ActDeclined {
		return errors.New("act is neither accepted nor declined")
	}
	return checkCall(m.Call)
}

func (m *Offer) check() error {
	if err := errors.Join(checkCall(m.Call), checkEpoch(m.Epoch)); err != nil {
		return err
	}
	return m.Description.check("offer")
}

func (m *Answer) check() error {
	if err := errors.Join(checkCall(m.Call), checkEpoch(m.Epoch)); err != nil {
		return err
	}
	return m.Description.check("answer")
}

func (m *Candidates) check() error {
	if len(m.Candidates) == 0 || len(m.Candidates) > MaxCandidates {
		return errors.New("candidates are missing or more than 100")
	}
	for i := range m.Candidates {
		if err := m.Candidates[i].check(); err != nil {
			return err
		}
	}
	return errors.Join(checkCall(m.Call), checkEpoch(m.Epoch))
}

func (m *Media) check() error {
	switch m.Connection {
	case Connecting, Connected, Reconnecting, Reloading:
		return errors.Join(checkCall(m.Call), m.Asking.check(), m.Detail.check())
	}
	return errors.New("connection is none of connecting, connected, reconnecting, reloading")
}

func (a Asking) check() error {
	switch a {
	case "", AskingAudio, AskingVideo, AskingBoth:
		return nil
	}
	return errors.New("asking is none of audio, video, both")
}

// check takes any word: it is logged and kept.
func (d Detail) check() error {
	if len(d) > 32 || strings.Trim(string(d), "abcdefghijklmnopqrstuvwxyz_") != "" {
		return errors.New("detail is no word of at most 32 letters and underscores")
	}
	return nil
}

func (m *Ended) check() error {
	if m.Reason == "" {
		return errors.New("reason is missing")
	}
	return checkCall(m.Call)
}

func (m *Push) check() error {
	switch m.State {
	case PushRinging, PushElsewhere, PushMissed, PushEnded:
	default:
		return errors.New("state is none of ringing, elsewhere, missed, ended")
	}
	if m.RingMs < 0 {
		return errors.New("ringMs is less than 0")
	}
	return errors.Join(checkCall(m.Call), checkID(string(m.From.ID)))
}

func (m *Ping) check() error       { return nil }
func (m *Pong) check() error       { return nil }
func (m *Restarting) check() error { return nil }

func (e *Error) check() error {
	if e.Code == "" {
		return errors.New("code is missing")
	}
	return nil
}

func checkID(id string) error {
	if id == "" || len(id) > MaxID {
		return errID
	}
	return nil
}

func (c *Candidate) check() error {
	long := len(c.Candidate) > MaxCandidate ||
		c.SDPMid != nil && len(*c.SDPMid) > MaxID ||
		c.UsernameFragment != nil && len(*c.UsernameFragment) > 256 // RFC 8839 §5.4
	if long {
		return errors.New("a candidate is too long")
	}
	if strings.ContainsFunc(c.Candidate, unicode.IsControl) {
		return errors.New("a candidate has a control character")
	}
	return nil
}
