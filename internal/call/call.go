// Package call implements the life of a call. [Call] is the state machine: a value that
// changes only in [Call.Step]. The [Switchboard] owns the calls of a node and carries out
// the outputs of their steps. The package knows no sockets and no database, and does not
// carry media.
//
//	hub ── HandleMessage ──▶ Switchboard ── Input ──▶ Call.Step
//	hub ◀── SendSession ───  Switchboard ◀─ Output ──┘
//	Recorder, Relay, Pusher ◀─┘   └─ timers: an Input, like a message
//
// Start reading at [New] for the switchboard of a node, and at table in step.go for the
// rules of a call.
package call

import (
	"net/netip"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// State is the state of a call.
type State int

// The states.
const (
	Looking State = iota // the callee is looked up; neither party has been told of the call
	Ringing              // the callee is rung
	Active               // the callee has accepted
	Ended
)

func (s State) String() string { return [...]string{"Looking", "Ringing", "Active", "Ended"}[s] }

// side is what a call knows about one of its parties.
type side struct {
	user protocol.User
	// session is the party's session in the call. The callee's is empty until one of
	// their sessions has accepted.
	session protocol.SessionID
	// media is the party's last media message.
	media protocol.Media
	// away says that the session has no connection.
	away bool
	// candidates counts the candidates since the party's last description.
	candidates int
	// held are the candidates that came while the call rings. inline are those within the
	// party's description, which are removed from it until accept.
	held, inline []protocol.Candidate
	// address is the client address of the session's connection, or the zero Addr if it is
	// not known.
	address netip.Addr
	// hides says that the party shows only relayed addresses, even after accept.
	hides bool
	// former says that the party was in the call in an earlier run of the server and has
	// not rejoined: it has no session. missed keeps the other party's last description and
	// its candidates for the session that rejoins.
	former bool
	missed []protocol.Message
}

// origin returns an origin for an input on behalf of the party.
func (s *side) origin() origin.Origin {
	return origin.Origin{Session: s.session, User: s.user, Address: s.address, AlwaysRelay: s.hides}
}

func (s *side) connected() bool { return s.media.Connection == protocol.Connected }

// Call is one attempt of a caller to talk to a callee, from ring to end. It has no clock,
// lock or goroutine, and changes only in [Call.Step].
type Call struct {
	ID    protocol.CallID
	Video bool

	state          State
	caller, callee side
	ref            string // of the ring that made the call

	rungAt, acceptedAt, endedAt time.Time
	reason                      protocol.EndReason
	by                          protocol.UserID
	next                        protocol.CallID // the call that replaces this one, if it was migrated

	// rang says that the callee's sessions were sent ring. confirmed says that a device
	// of the callee rings. pushed says that a push service has taken a message.
	rang, confirmed, pushed bool
	// waiting says that the callee was in another call when this one began to ring.
	// stranger says that the callee did not know the caller.
	waiting, stranger bool
	// noRelay says that the caller's page does not use our relay.
	noRelay bool
	// reloaded says that the caller's page was reloaded while the callee was looked up.
	reloaded bool
	// offer is the caller's offer, kept while the call rings.
	offer *protocol.Offer
	// early are the callee's sessions that asked for the offer before accept. answered is
	// the one of them that has answered it.
	early    []protocol.SessionID
	answered protocol.SessionID
	// epoch is the highest epoch of a description so far.
	epoch int
	// relayed says that the relay was told to forward between relayed addresses only.
	relayed bool
	// flowed says that both parties have reported connected media at least once.
	flowed bool
	// patience is how long the call lasts without media, in milliseconds. 0 means that
	// the media timer is stopped.
	patience int64

	rules
}

// rules are the settings that all calls of a switchboard share.
type rules struct {
	timings    protocol.Timings
	iceServers func(user protocol.UserID, scope string) []protocol.ICEServer
	// renewAfter is the age at which relay credentials are replaced; 0 means never.
	renewAfter time.Duration
	seal       func(ticket) string
	pushKey    func(protocol.CallID, protocol.UserID) string
	// earlyAnswers lets the two browsers connect, over the relay only, while the call rings.
	earlyAnswers bool
}

// State returns the state of the call.
func (c *Call) State() State { return c.state }

// Parties returns the users of the caller and the callee.
func (c *Call) Parties() (caller, callee protocol.UserID) {
	return c.caller.user.ID, c.callee.user.ID
}

// Kind is the kind of an [Input]: a message of a session, an event of its connection or of
// a push, an act of a user or the server on the call, or a timer.
type Kind int

// The kinds of input. Each has a row in the table of states and inputs in DESIGN.md.
const (
	Confirm Kind = iota // a device of the callee rings
	Accept
	Decline
	Hangup
	Offer
	Answer
	Candidates
	Media
	Merge
	Rejoin
	SessionOpened
	PageClosed
	ConnectionLost
	ConnectionBack
	SessionEnded
	PageHidden
	Leave   // the user goes to another call: see [Input.Next]
	Migrate // the user rings the other party again: see [Input.dial]
	Block   // the user has blocked the other party
	SignOut // the user has signed out everywhere
	PushTaken
	Found     // the result of a [LookUp]: see [Input.found]
	Restart   // the server is about to restart
	Limit     // a limit of the server ends the call, such as the longest duration
	Terminate // the operator ends the call
	Fault     // a timer of the call has panicked
	PushTimeout
	RingTimeout
	UnreachableTimeout
	CallerTimeout
	ConnectTimeout
	MediaTimeout
	CredentialsTimeout
	CallerLostTimeout
	CalleeLostTimeout
	kinds int = iota
)

var kindNames = [kinds]string{
	"ringing", "accept", "decline", "hangup", "offer", "answer", "candidate", "media",
	"merge", "rejoin", "session opened", "page closed", "connection lost", "connection back", "session ended", "page hidden",
	"leave", "migrate", "block", "sign-out", "push taken", "found", "restart", "limit", "terminate", "fault", "push time-out", "ring time-out", "unreachable time-out", "caller time-out", "connect time-out", "media time-out",
	"credentials time-out", "caller lost time-out", "callee lost time-out",
}

func (k Kind) String() string { return kindNames[k] }

// Input is something that happened to a call.
type Input struct {
	Kind Kind
	// Origin says whose act the input is. It is empty for a timer and other inputs that are
	// nobody's act. A device that answers a push has a user but no session.
	origin.Origin
	// Message is the message of the session, for the kinds that have one.
	Message protocol.Message
	// Next is the call that a user who leaves begins with the same other party, if any.
	Next protocol.CallID
	// found is the result of the look-up, for [Found].
	found callee
	// dial describes the call that replaces this one, for [Migrate].
	dial dial
}

// originOf returns the origin of an act of a user that comes from none of their sessions.
func originOf(user protocol.UserID) origin.Origin {
	return origin.Origin{User: protocol.User{ID: user}}
}

// Output is something that the switchboard must do after a step. The outputs of a step are
// carried out in order.
type Output interface{ output() }

type (
	// Send is a message to one session.
	Send struct {
		Session protocol.SessionID
		Message protocol.Message
	}
	// SendUser is a message to every session of a user but Except.
	SendUser struct {
		User    protocol.UserID
		Except  protocol.SessionID
		Message protocol.Message
	}
	// SetTimer makes Kind an input after a time. It replaces a timer of the same kind.
	SetTimer struct {
		Kind  Kind
		After time.Duration
	}
	// StopTimer stops a timer, if it is set.
	StopTimer struct{ Kind Kind }
	// Permit tells the relay that a party has shown these addresses to the other party, who
	// may reach them over the relay from now on.
	Permit struct {
		Call      protocol.CallID
		Party     protocol.UserID
		Addresses []netip.Addr
	}
	// RelayOnly tells the relay whether to forward between relayed addresses only. While it
	// is on, permissions have no effect.
	RelayOnly struct {
		Call protocol.CallID
		On   bool
	}
	// LookUp asks the directory who the callee is, and whether they can be rung. The answer
	// is a [Found] input.
	LookUp struct {
		Call           protocol.CallID
		Caller, Callee protocol.UserID
	}
	// Drop forgets a call that has ended before either party was told of it. It leaves no
	// record.
	Drop struct{}
	// Keep writes the record of a call that was accepted.
	Keep struct{ Record Record }
	// Finish writes the record of a call that has ended.
	Finish struct{ Record Record }
	// GoOn adds the call that replaces this one, which has ended, with its first outputs.
	GoOn struct {
		Call    *Call
		Outputs []Output
	}
)

func (Send) output()      {}
func (SendUser) output()  {}
func (SetTimer) output()  {}
func (StopTimer) output() {}
func (Permit) output()    {}
func (RelayOnly) output() {}
func (LookUp) output()    {}
func (Drop) output()      {}
func (Keep) output()      {}
func (Finish) output()    {}
func (GoOn) output()      {}

func (c *Call) ringLeft(now time.Time) int64 {
	return max((protocol.Duration(c.timings.RingMs) - now.Sub(c.rungAt)).Milliseconds(), 0)
}

func (c *Call) callingMessage(now time.Time) *protocol.Calling {
	return &protocol.Calling{
		Ref: c.ref, Call: c.ID, To: c.callee.user, RingMs: c.ringLeft(now), ICEServers: c.iceServers(c.caller.user.ID, string(c.ID)),
	}
}

func (c *Call) ringMessage(now time.Time) *protocol.Ring {
	from := c.caller.user
	from.Presence = "" // the caller is in this call
	return &protocol.Ring{
		Call: c.ID, From: &from, Video: c.Video, RingMs: c.ringLeft(now), Waiting: c.waiting, Early: c.earlyAnswers, Stranger: c.stranger && !c.noRelay,
		ICEServers: c.iceServers(c.callee.user.ID, string(c.ID)),
	}
}

func (c *Call) acceptMessage(early bool) *protocol.Accept {
	return &protocol.Accept{Call: c.ID, Ticket: c.ticket(), Early: early}
}

// renewLater sets the timer that replaces the parties' relay credentials before they expire.
// old is their age.
func (c *Call) renewLater(old time.Duration) []Output {
	if c.renewAfter == 0 {
		return nil
	}
	return []Output{SetTimer{CredentialsTimeout, max(0, c.renewAfter-old)}}
}

// refresh sends a party new relay credentials.
func (c *Call) refresh(s *side) []Output {
	servers := c.iceServers(s.user.ID, string(c.ID))
	if len(servers) == 0 {
		return nil
	}
	return s.send(&protocol.Refresh{Call: c.ID, ICEServers: servers})
}

// rejoinMessage returns the message that describes the call to a new session of a party.
func (c *Call) rejoinMessage(s *side, now time.Time) *protocol.Rejoin {
	m := &protocol.Rejoin{
		Call: c.ID, Video: c.Video, Epoch: c.epoch, Direction: protocol.Incoming,
		ICEServers: c.iceServers(s.user.ID, string(c.ID)),
	}
	peer := c.caller.user
	if s == &c.caller {
		m.Direction, peer = protocol.Outgoing, c.callee.user
	}
	peer.Presence = ""
	m.Peer = &peer
	if c.state == Active {
		m.Active, m.Ticket, m.ElapsedMs = true, c.ticket(), now.Sub(c.acceptedAt).Milliseconds()
	} else {
		m.RingMs = c.ringLeft(now)
	}
	return m
}

func (c *Call) ticket() string {
	party := func(s side) ticketParty { return ticketParty{s.user.ID, s.user.Name} }
	return c.seal(ticket{
		Call: c.ID, Caller: party(c.caller), Callee: party(c.callee), Video: c.Video,
		RungAt: c.rungAt.UnixMilli(), AcceptedAt: c.acceptedAt.UnixMilli(),
	})
}
