package protocol

// Version is the protocol's major version. A hello that names another one is
// refused with [CodeVersion].
const Version = 1

// Message is one message of either direction; its concrete types are those of
// this file.
type Message interface {
	// Type is the message's name on the wire.
	Type() string
	// check reports what breaks a limit of this package.
	check() error
}

// User is what others may know of a person.
type User struct {
	ID       UserID   `json:"id"`
	Name     string   `json:"name"`
	Presence Presence `json:"presence,omitempty"`
}

// Presence is what others may know of where a user is.
type Presence string

// The presences.
const (
	Offline Presence = "offline"
	Online  Presence = "online"
	Busy    Presence = "busy" // in a call, ringing or active
)

// ICEServer is W3C's RTCIceServer.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Description is W3C's RTCSessionDescriptionInit.
type Description struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// Candidate is W3C's RTCIceCandidateInit. An empty Candidate ends the candidates
// of its generation.
type Candidate struct {
	Candidate        string  `json:"candidate"`
	SDPMid           *string `json:"sdpMid,omitempty"`
	SDPMLineIndex    *uint16 `json:"sdpMLineIndex,omitempty"`
	UsernameFragment *string `json:"usernameFragment,omitempty"`
}

// Hello opens a connection: the first message of a client, and its only one
// until the server's [Welcome].
type Hello struct {
	Version int `json:"version"`
	// Name is how a guest wants to be called, where access is open.
	Name string `json:"name,omitempty"`
	// Token proves who the user is; a guest has it from an earlier welcome.
	Token string `json:"token,omitempty"`
	// Presence asks for the users who are online, now and as they change.
	Presence bool `json:"presence,omitempty"`
	// PresenceAt is the last [Welcome.PresenceAt] or [PresenceChange.At] of a client that
	// still has the list: it is told only what changed since.
	PresenceAt string `json:"presenceAt,omitempty"`
	// Resume is the resume token of the session to take up again.
	Resume string `json:"resume,omitempty"`
	// Received is the last numbered message that the client has of that session.
	Received uint64 `json:"received,omitempty"`
	// Reload says that the client has nothing of that session but the token: a page
	// that was loaded anew. It gets a new session, which takes over the old one's
	// call: a [Rejoin] follows.
	Reload bool `json:"reload,omitempty"`
	// WhenBusy is what becomes of a ring while this user is in a call: waiting
	// (default) or busy. DoNotDisturb refuses every ring.
	WhenBusy     WhenBusy `json:"whenBusy,omitempty"`
	DoNotDisturb bool     `json:"doNotDisturb,omitempty"`
	// AlwaysRelay hides addresses in the calls of this session: both parties' media
	// goes over relays, and neither is shown another candidate.
	AlwaysRelay bool `json:"alwaysRelay,omitempty"`
	// Device and Visible are as in [Show].
	Device  string `json:"device,omitempty"`
	Visible bool   `json:"visible,omitempty"`
}

// Show says whether the person sees this page. Their device is told of no ring by push
// while they do: the page rings. It has no number, since the next hello says it again.
type Show struct {
	// Device names the device that [Subscription] is of: the SHA-256 of its endpoint, in
	// base64url. Empty: none.
	Device  string `json:"device,omitempty"`
	Visible bool   `json:"visible"`
}

// WhenBusy is what becomes of a ring while its callee is in a call.
type WhenBusy string

// The choices.
const (
	CallWaiting WhenBusy = "waiting" // it rings, softly
	AnswerBusy  WhenBusy = "busy"    // the caller is told
)

// Prefer changes [Hello]'s WhenBusy and DoNotDisturb, for all sessions of the user.
type Prefer struct {
	WhenBusy     WhenBusy `json:"whenBusy"`
	DoNotDisturb bool     `json:"doNotDisturb"`
}

// Welcome answers [Hello].
type Welcome struct {
	Session SessionID `json:"session"`
	// Resume takes this session up again after the connection was lost. A secret.
	Resume string `json:"resume"`
	// Resumed says that the session of [Hello.Resume] goes on: what the client
	// missed follows. Otherwise the session is new and old calls' fate unknown to it.
	Resumed bool `json:"resumed,omitempty"`
	// Received is the last numbered message that the server has of this session.
	Received uint64 `json:"received,omitempty"`
	User     User   `json:"user"`
	// Token proves next time who this guest is. A secret.
	Token      string      `json:"token,omitempty"`
	ICEServers []ICEServer `json:"iceServers"`
	Timings    Timings     `json:"timings"`
	// Users are those who are online, if [Hello.Presence] asked. Partial says that they
	// are only those who changed since [Hello.PresenceAt].
	Users   []User `json:"users,omitempty"`
	Partial bool   `json:"partial,omitempty"`
	// PresenceAt names what the client knows of presence now.
	PresenceAt string `json:"presenceAt,omitempty"`
}

// PresenceChange tells which users came, left, are busy or have another name. It has no
// number: a client that missed one says so by its [Hello.PresenceAt].
type PresenceChange struct {
	// At names what the client knows of presence with this message.
	At string `json:"at"`
	// All says that Users are all who are online, not only those who changed.
	All bool `json:"all,omitempty"`
	// Users may hold the client's own. Of one who is offline there may be no name.
	Users []User `json:"users"`
}

// Ring asks for a call to a user (client), or offers one (server).
type Ring struct {
	// Ref comes back in the [Calling] or [Error] that answers. From clients only.
	Ref string `json:"ref,omitempty"`
	// To is whom to ring. From clients only.
	To UserID `json:"to,omitempty"`
	// Video says that the caller wants to be seen.
	Video bool `json:"video"`

	// Call, From, RingMs and ICEServers come from the server only.
	Call CallID `json:"call,omitempty"`
	From *User  `json:"from,omitempty"`
	// RingMs is how long the call goes on ringing, by the server's clock.
	RingMs     int64       `json:"ringMs,omitempty"`
	ICEServers []ICEServer `json:"iceServers,omitempty"`
	// Waiting says that the callee is in another call, which accepting this ends.
	Waiting bool `json:"waiting,omitempty"`
	// Early says from a client that it can connect before anyone has accepted, and from the server that the two may.
	Early bool `json:"early,omitempty"`
	// Stranger says that the callee has never rung the caller, nor accepted a call of theirs, and may hide behind the
	// relay. From the server only.
	Stranger bool `json:"stranger,omitempty"`
	// NoRelay says that the caller's page has no relay of ours, through which a callee who hides could always be
	// reached. A door of the server says so; no message carries it.
	NoRelay bool `json:"-"`
}

// Calling answers a client's [Ring]: the call is there and the callee is looked for.
type Calling struct {
	Ref        string      `json:"ref,omitempty"`
	Call       CallID      `json:"call"`
	To         User        `json:"to"`
	RingMs     int64       `json:"ringMs"`
	ICEServers []ICEServer `json:"iceServers"`
}

// Ringing confirms that a device of the callee rings.
type Ringing struct {
	Call CallID `json:"call"`
	// Early asks for the caller's offer now, before anyone has accepted.
	Early bool `json:"early,omitempty"`
}

// Accept takes a call (callee), or tells both parties that it was taken (server).
type Accept struct {
	Call CallID `json:"call"`
	// Ticket proves the call to a server that has forgotten it. From the server
	// only. A secret.
	Ticket string `json:"ticket,omitempty"`
	// Early says that the connection made while it rang is with the session that
	// accepted, and goes on. Otherwise a caller that has one makes a new one.
	Early bool `json:"early,omitempty"`
	// RelayOnly says that the callee hides its addresses in this call, as Hello.AlwaysRelay does in every call. From
	// clients only.
	RelayOnly bool `json:"relayOnly,omitempty"`
}

// Merged answers a client's [Ring] to someone who was ringing that very client:
// the ring is gone, and the client is the accepted callee of the call that came first.
type Merged struct {
	Ref    string `json:"ref,omitempty"`
	Call   CallID `json:"call"`
	Ticket string `json:"ticket"`
}

// Rejoin takes up a call in a new session, by its ticket (client), or tells the
// session that it is in the call again (server).
type Rejoin struct {
	// Ticket is the client's proof, and from the server the one to keep.
	Ticket string `json:"ticket,omitempty"`

	// RelayOnly is that of [Accept], once more. From clients only.
	RelayOnly bool `json:"relayOnly,omitempty"`

	// Call is the ticket's, so that a refusal can name it.
	Call CallID `json:"call,omitempty"`

	// All below come from the server only.
	Peer *User `json:"peer,omitempty"`
	// Direction is "out" for the caller, "in" for the callee.
	Direction string `json:"direction,omitempty"`
	Video     bool   `json:"video,omitempty"`
	// Active says that the call was accepted, ElapsedMs how long ago; a call that
	// is not rings for RingMs more.
	Active    bool  `json:"active,omitempty"`
	ElapsedMs int64 `json:"elapsedMs,omitempty"`
	RingMs    int64 `json:"ringMs,omitempty"`
	// RingMs, Epoch: see [Ring] and [Offer]; Epoch is the highest so far.
	Epoch      int         `json:"epoch,omitempty"`
	ICEServers []ICEServer `json:"iceServers,omitempty"`
}

// Refresh tells a party of an active call how to reach the relays from now on, with
// fresh credentials: when its session is resumed, and before the last ones expire.
type Refresh struct {
	Call       CallID      `json:"call"`
	ICEServers []ICEServer `json:"iceServers"`
}

// The directions of [Rejoin].
const (
	Outgoing = "out"
	Incoming = "in"
)

// Decline refuses a call, on all devices of the callee.
type Decline struct {
	Call CallID `json:"call"`
}

// Hangup ends a call; from the caller of a ringing one it cancels.
type Hangup struct {
	Call CallID `json:"call"`
	// AgoMs is how long ago the party hung up, where the server could not be told then.
	AgoMs int64 `json:"agoMs,omitempty"`
	// Detail says that the client gives up, and why: before media has flowed the
	// call ends as failed.
	Detail Detail `json:"detail,omitempty"`
}

// Elsewhere tells a session that the ringing stopped because another session of
// the same user has acted.
type Elsewhere struct {
	Call CallID `json:"call"`
	// Act is "accepted" or "declined".
	Act string `json:"act"`
}

// The acts of [Elsewhere].
const (
	ActAccepted = "accepted"
	ActDeclined = "declined"
)

// Offer carries an SDP offer to the other party.
type Offer struct {
	Call CallID `json:"call"`
	// Epoch counts the peer connections of the call, from 0: a higher one is a new
	// peer connection, after a reload.
	Epoch       int         `json:"epoch,omitempty"`
	Description Description `json:"description"`
}

// Answer carries an SDP answer to the other party.
type Answer struct {
	Call CallID `json:"call"`
	// Epoch counts the peer connections of the call, from 0: a higher one is a new
	// peer connection, after a reload.
	Epoch       int         `json:"epoch,omitempty"`
	Description Description `json:"description"`
}

// Candidates carries ICE candidates to the other party.
type Candidates struct {
	Call       CallID      `json:"call"`
	Epoch      int         `json:"epoch,omitempty"`
	Candidates []Candidate `json:"candidates"`
}

// Media tells the other party how this party's side of the media stands.
type Media struct {
	Call       CallID     `json:"call"`
	Connection Connection `json:"connection"`
	// Audio and Video say whether the party sends sound and picture: false is
	// muted, camera off, no such device, or a device that gives nothing.
	Audio bool `json:"audio"`
	Video bool `json:"video"`
	// Asking says that the party's browser asks them to allow a device, and they have not
	// answered.
	Asking Asking `json:"asking,omitempty"`
	// Detail says why there is no connection, as far as the party can tell.
	Detail Detail `json:"detail,omitempty"`
}

// Asking is what a browser asks its person to allow.
type Asking string

// The devices.
const (
	AskingAudio Asking = "audio"
	AskingVideo Asking = "video"
	AskingBoth  Asking = "both"
)

// Detail says why a call failed.
type Detail string

// The details that are known, from the one that tells most to the one that tells
// least. A client of another version may know others.
const (
	// DetailDescription: a browser refused a description.
	DetailDescription Detail = "description"
	// DetailRelayFull: the relay had no room (RFC 8656 §5: 486, 508).
	DetailRelayFull Detail = "relay_full"
	// DetailRelayRefused: the relay refused a request for another reason.
	DetailRelayRefused Detail = "relay_refused"
	// DetailRelayUnreachable: no relay answered a party.
	DetailRelayUnreachable Detail = "relay_unreachable"
	// DetailNoAnswer: the other party's client described nothing.
	DetailNoAnswer Detail = "no_answer"
	// DetailNoPath: both described themselves, and no path between them was found.
	DetailNoPath Detail = "no_path"
)

// Connection is a party's shade of an active call.
type Connection string

// The shades.
const (
	Connecting   Connection = "connecting"
	Connected    Connection = "connected"
	Reconnecting Connection = "reconnecting"
	Reloading    Connection = "reloading"
)

// Ended tells that a call is over, and why.
type Ended struct {
	Call   CallID    `json:"call"`
	Reason EndReason `json:"reason"`
	// By is the party whose act ended the call, if one did.
	By UserID `json:"by,omitempty"`
	// Detail says why a call failed, as far as a party could tell.
	Detail Detail `json:"detail,omitempty"`
	// Next is the call that goes on instead, if this one was migrated.
	Next CallID `json:"next,omitempty"`
	// DurationMs is the time from accept to end.
	DurationMs int64 `json:"durationMs"`
}

// Push tells a device by Web Push of a call that rings its user, and then what
// became of it. It comes from the server only, never within a session.
type Push struct {
	Call  CallID    `json:"call"`
	State PushState `json:"state"`
	From  User      `json:"from"`
	Video bool      `json:"video"`
	// RingMs is how long the call went on ringing when this was sent, Key what
	// proves to the server that this device was told of it, and Waiting that the
	// user is in another call: while it rings only.
	RingMs  int64  `json:"ringMs,omitempty"`
	Key     string `json:"key,omitempty"`
	Waiting bool   `json:"waiting,omitempty"`
}

// Subscription is what a device that wants to be pushed says of itself, by HTTP:
// W3C's PushSubscriptionJSON and its user's wish.
type Subscription struct {
	Endpoint string           `json:"endpoint"`
	Keys     SubscriptionKeys `json:"keys"`
	// DoNotDisturb is [Hello]'s, for as long as the user has no session.
	DoNotDisturb bool `json:"doNotDisturb"`
}

// SubscriptionKeys are those of a [Subscription], in base64url.
type SubscriptionKeys struct {
	P256dh string `json:"p256dh"`
	Auth   string `json:"auth"`
}

// PushState is where a call stands for a device that is told by Web Push.
type PushState string

// The states.
const (
	PushRinging   PushState = "ringing"
	PushElsewhere PushState = "elsewhere" // accepted or declined on another device
	PushMissed    PushState = "missed"    // over, and a missed call
	PushEnded     PushState = "ended"     // over, and none
)

// Ping asks whether the client is there. Ack is the last numbered message that
// the server has of this session: the client may forget those up to it.
type Ping struct {
	Ack uint64 `json:"ack"`
}

// Pong answers [Ping]; Ack is the same the other way round.
type Pong struct {
	Ack uint64 `json:"ack"`
}

// Restarting tells that the server is about to stop, and when to come back:
// after a random time between the two.
type Restarting struct {
	MinMs int64 `json:"minMs"`
	MaxMs int64 `json:"maxMs"`
}

// Type implements [Message].
func (Hello) Type() string          { return "hello" }
func (Show) Type() string           { return "show" }
func (Welcome) Type() string        { return "welcome" }
func (PresenceChange) Type() string { return "presence" }
func (Ring) Type() string           { return "ring" }
func (Calling) Type() string        { return "calling" }
func (Ringing) Type() string        { return "ringing" }
func (Accept) Type() string         { return "accept" }
func (Decline) Type() string        { return "decline" }
func (Hangup) Type() string         { return "hangup" }
func (Merged) Type() string         { return "merged" }
func (Rejoin) Type() string         { return "rejoin" }
func (Refresh) Type() string        { return "refresh" }
func (Prefer) Type() string         { return "prefer" }
func (Elsewhere) Type() string      { return "elsewhere" }
func (Offer) Type() string          { return "offer" }
func (Answer) Type() string         { return "answer" }
func (Candidates) Type() string     { return "candidate" }
func (Media) Type() string          { return "media" }
func (Ended) Type() string          { return "ended" }
func (Push) Type() string           { return "push" }
func (Ping) Type() string           { return "ping" }
func (Pong) Type() string           { return "pong" }
func (Restarting) Type() string     { return "restarting" }
func (Error) Type() string          { return "error" }
