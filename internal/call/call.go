// Package call is the life of a call: the state machine, a value that changes
// only in [Call.Step], and the [Switchboard], which owns the live calls and does
// what a step wants done. It knows no socket, no database and no clock but the
// one it is handed; media and its bytes are not its business.
//
//	hub ── HandleMessage ──▶ Switchboard ── Input ──▶ Call.Step
//	hub ◀── SendSession ───  Switchboard ◀─ Output ──┘
//	Recorder, Relay, Pusher ◀─┘   └─ timers: an Input, like a message
//
// Come in at [New] for a node's switchboard, at table in step.go for the rules.
package call

import (
	"net/netip"
	"time"

	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/protocol"
)

// State is where a call stands.
type State int

// The states.
const (
	Looking State = iota // whom the caller rings is being looked up, and nobody has heard of it
	Ringing
	Active
	Ended
)

func (s State) String() string { return [...]string{"Looking", "Ringing", "Active", "Ended"}[s] }

// side is what a call knows of one of its parties.
type side struct {
	user protocol.User
	// session is the chosen one; the callee's is empty until one has accepted.
	session protocol.SessionID
	// media is what the party said last of its media.
	media protocol.Media
	// away says that the session has no connection.
	away bool
	// candidates counts those since the party's last description.
	candidates int
	// held are those that came while it rings; inline those that stood in its
	// description and were taken out for a party that has not accepted.
	held, inline []protocol.Candidate
	// address is where the session's connection comes from; invalid when that is not known.
	address netip.Addr
	// hides says that the party shows nothing but relayed addresses after accept, too.
	hides bool
	// former says that the party was in the call in an earlier run of the server and has
	// not come back: it has no session. missed is the other party's last description
	// since, and its candidates, for the next session.
	former bool
	missed []protocol.Message
}

// origin is where the party speaks from, for an input that stands for it.
func (s *side) origin() origin.Origin {
	return origin.Origin{Session: s.session, User: s.user, Address: s.address, AlwaysRelay: s.hides}
}

func (s *side) connected() bool { return s.media.Connection == protocol.Connected }

// Call is one attempt of a caller to talk to a callee, from ring to end. It is
// a value without clock, lock or goroutine: it changes only in [Call.Step].
type Call struct {
	ID    protocol.CallID
	Video bool

	state          State
	caller, callee side
	ref            string // of the ring that made the call

	rungAt, acceptedAt, endedAt time.Time
	reason                      protocol.EndReason
	by                          protocol.UserID
	next                        protocol.CallID // goes on instead, if this one was migrated

	// rang says that the callee's sessions were told; confirmed, that a device rings;
	// pushed, that a push service is to wake one.
	rang, confirmed, pushed bool
	// waiting says that the callee was in another call when it began to ring, and
	// stranger that they did not know the caller.
	waiting, stranger bool
	// noRelay says that the caller's page has no relay of ours.
	noRelay bool
	// reloaded says that the caller's page was loaded anew before the callee was looked up.
	reloaded bool
	// offer is the caller's, kept while it rings; its candidates are held there.
	offer *protocol.Offer
	// early are the callee's sessions that asked for the offer before accept, and
	// answered the one of them that has answered it.
	early    []protocol.SessionID
	answered protocol.SessionID
	// epoch is the highest of a description so far.
	epoch int
	// relayed says that the relay forwards between relayed addresses only.
	relayed bool
	// flowed says that media was up on both sides once.
	flowed bool
	// patience is how long its absence is borne, in milliseconds; 0: it is not timed.
	patience int64

	rules
}

// rules are what a call goes by, the same for all calls of a switchboard.
type rules struct {
	timings    protocol.Timings
	iceServers func(user protocol.UserID, scope string) []protocol.ICEServer
	// renewAfter is when relay credentials are replaced; 0: never.
	renewAfter time.Duration
	seal       func(ticket) string
	pushKey    func(protocol.CallID, protocol.UserID) string
	// earlyAnswers lets the two browsers connect, over the relay only, while it rings.
	earlyAnswers bool
}

// State is where the call stands.
func (c *Call) State() State { return c.state }

// Parties are the caller's and the callee's user.
func (c *Call) Parties() (caller, callee protocol.UserID) {
	return c.caller.user.ID, c.callee.user.ID
}

// Kind is what an [Input] is: a message of a session, news of its connection or of
// a push, something that a user or the server does to a call from outside, or a timer.
type Kind int

// The kinds. Each has a row in the table of this package.
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
	Leave   // for another call: see [Input.Next]
	Migrate // the user rings the other party again: see [Input.dial]
	Block   // the user wants nothing more of the other party
	SignOut // the user has signed out everywhere: nobody can be them any more
	PushTaken
	Found     // what a [LookUp] has found: see [Input.found]
	Restart   // the server is about to
	Limit     // of the server, such as how long a call may be
	Terminate // by whoever runs the server
	Fault     // a panic of the server's in one of the call's timers
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
	// Origin is whose act it is; empty for a timer and a push that was taken. A device
	// that was pushed has no session.
	origin.Origin
	// Message is what the session sent, for the kinds that carry something.
	Message protocol.Message
	// Next is the call that a user who leaves begins with the very same person, if any.
	Next protocol.CallID
	// found is what was looked up, for [Found].
	found callee
	// dial is what the call that goes on instead is made of, for [Migrate].
	dial dial
}

// of is the origin of a user's act that no session of theirs stands for.
func of(user protocol.UserID) origin.Origin { return origin.Origin{User: protocol.User{ID: user}} }

// Output is something that a step of a call wants done, in order.
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
	// SetTimer makes Kind an input after a time; again replaces the earlier one.
	SetTimer struct {
		Kind  Kind
		After time.Duration
	}
	// StopTimer takes a timer back; one that is not set is fine.
	StopTimer struct{ Kind Kind }
	// Permit says that a party has shown these addresses to the other one, who may reach them
	// over the relay from now on.
	Permit struct {
		Call      protocol.CallID
		Party     protocol.UserID
		Addresses []netip.Addr
	}
	// RelayOnly says whether the relay forwards between relayed addresses only, in spite of all
	// that was permitted.
	RelayOnly struct {
		Call protocol.CallID
		On   bool
	}
	// LookUp asks who the callee is, and whether they can be rung: [Found] is the answer.
	LookUp struct {
		Call           protocol.CallID
		Caller, Callee protocol.UserID
	}
	// Drop says that the call has ended before anybody heard of it: it leaves no record.
	Drop struct{}
	// Keep says that the call was accepted: its record so far.
	Keep struct{ Record Record }
	// Finish says that the call has ended: its one record.
	Finish struct{ Record Record }
	// GoOn is the call that takes the place of this one, which has ended, and what that
	// wants done.
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
	from.Presence = "" // in a call, of course
	return &protocol.Ring{
		Call: c.ID, From: &from, Video: c.Video, RingMs: c.ringLeft(now), Waiting: c.waiting, Early: c.earlyAnswers, Stranger: c.stranger && !c.noRelay,
		ICEServers: c.iceServers(c.callee.user.ID, string(c.ID)),
	}
}

func (c *Call) acceptMessage(early bool) *protocol.Accept {
	return &protocol.Accept{Call: c.ID, Ticket: c.ticket(), Early: early}
}

// renewLater has the parties' relay credentials, which are that old, replaced before they expire.
func (c *Call) renewLater(old time.Duration) []Output {
	if c.renewAfter == 0 {
		return nil
	}
	return []Output{SetTimer{CredentialsTimeout, max(0, c.renewAfter-old)}}
}

// refresh tells a party how to reach the relays from now on.
func (c *Call) refresh(s *side) []Output {
	servers := c.iceServers(s.user.ID, string(c.ID))
	if len(servers) == 0 {
		return nil
	}
	return s.say(&protocol.Refresh{Call: c.ID, ICEServers: servers})
}

// rejoinMessage is the call as a new session of a party is told of it.
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
