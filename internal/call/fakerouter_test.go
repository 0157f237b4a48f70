package call

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// fakeRouter is a [Router], a [Recorder], a [Relay], an [account.Presence] and an
// [account.Acquaintances] that notes what it is told.
type fakeRouter struct {
	// Set before use. A nil function or map has no effect.
	notesRelay  bool                                       // calls of Relay are noted, too
	shown       func(since time.Time) []string             // for Shown
	onSend      func(protocol.SessionID, protocol.Message) // gets what SendSession sends
	onSendUser  func(protocol.Message)                     // gets what SendUser sends
	alwaysRelay map[protocol.SessionID]bool                // sessions that hide their addresses
	whenBusy    map[protocol.UserID]protocol.WhenBusy      // for Here
	addresses   func(protocol.SessionID) netip.Addr        // nil: only ann1 has one
	knowsDelay  time.Duration                              // how long Knows takes

	mu           sync.Mutex // guards all below
	notes        []string
	calls        []protocol.CallID
	records      []Record // of ended calls
	accepted     []Record // of calls when they were accepted
	ticket       string   // the last that was issued
	databaseDown bool
	knows        func(user, other protocol.UserID) bool // nil: everybody knows everybody
}

func (f *fakeRouter) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

// word returns the type of a message with its reason, code or connection.
func word(m protocol.Message) string {
	switch m := m.(type) {
	case *protocol.Ended:
		return "ended " + string(m.Reason)
	case *protocol.Error:
		return "error " + string(m.Code)
	case *protocol.Media:
		return "media " + string(m.Connection)
	}
	return m.Type()
}

func (f *fakeRouter) SendSession(s protocol.SessionID, m protocol.Message) {
	if c, ok := m.(*protocol.Calling); ok {
		f.mu.Lock()
		f.calls = append(f.calls, c.Call)
		f.mu.Unlock()
	}
	if a, ok := m.(*protocol.Accept); ok {
		f.mu.Lock()
		f.ticket = a.Ticket
		f.mu.Unlock()
	}
	if f.onSend != nil {
		f.onSend(s, m)
	}
	f.note("%s %s", s, word(m))
}

func (f *fakeRouter) SendUser(u protocol.UserID, except protocol.SessionID, m protocol.Message) {
	if f.onSendUser != nil {
		f.onSendUser(m)
	}
	f.note("%s* %s", u, word(m))
}

// Here implements [account.Presence].
func (f *fakeRouter) Here(id protocol.UserID) (protocol.User, protocol.Prefer, bool) {
	prefers := protocol.Prefer{WhenBusy: f.whenBusy[id], DoNotDisturb: id == "dnd"}
	return protocol.User{ID: id, Name: strings.ToUpper(string(id))}, prefers, id != "nobody"
}

// Shown implements [Router].
func (f *fakeRouter) Shown(_ protocol.UserID, since time.Time) []string {
	if f.shown != nil {
		return f.shown(since)
	}
	return nil
}

// at returns the origin of a message of a session.
func (f *fakeRouter) at(session protocol.SessionID) origin.Origin {
	from := originOf(userOf(session))
	from.Session, from.AlwaysRelay = session, f.alwaysRelay[session]
	if f.addresses != nil {
		from.Address = f.addresses(session)
	} else if session == "ann1" {
		from.Address = netip.MustParseAddr("192.0.2.1")
	}
	return from
}

// at returns the origin of a message of a session from the fake router of the switchboard.
func (s *Switchboard) at(session protocol.SessionID) origin.Origin {
	return s.cfg.Router.(interface { //nolint:forcetypeassert // every fake router has it
		at(protocol.SessionID) origin.Origin
	}).at(session)
}

func (f *fakeRouter) Permit(_ protocol.CallID, party protocol.UserID, addrs []netip.Addr) {
	if f.notesRelay {
		f.note("permit %s %v", party, addrs)
	}
}

func (f *fakeRouter) RelayOnly(_ protocol.CallID, on bool) {
	if f.notesRelay {
		f.note("relay only %v", on)
	}
}

func (f *fakeRouter) EndCall(protocol.CallID) uint64 { return 4711 }

func (f *fakeRouter) SetBusy(u protocol.UserID, busy bool) { f.note("%s busy %v", u, busy) }

func (f *fakeRouter) Record(r Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.EndedAt.IsZero() {
		f.accepted = append(f.accepted, r)
		return
	}
	f.records = append(f.records, r)
}

// Lives implements [Recorder]. It fails while the database is down.
func (f *fakeRouter) Lives(_ context.Context, id protocol.CallID, _ time.Time) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.databaseDown {
		return false, errors.New("no database")
	}
	return !slices.ContainsFunc(f.records, func(r Record) bool { return r.Call == id }), nil
}

// Knows implements [account.Acquaintances]. It fails while the database is down.
func (f *fakeRouter) Knows(ctx context.Context, user, other protocol.UserID) (bool, error) {
	if f.knowsDelay > 0 {
		select {
		case <-time.After(f.knowsDelay):
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.databaseDown {
		return false, errors.New("no database")
	}
	return f.knows == nil || f.knows(user, other), nil
}

// since returns the notes since its last call.
func (f *fakeRouter) since() []string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	notes := f.notes
	f.notes = nil
	return notes
}

func (f *fakeRouter) lastCall() protocol.CallID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[len(f.calls)-1]
}

// ended returns the records of ended calls so far.
func (f *fakeRouter) ended() []Record {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records
}
