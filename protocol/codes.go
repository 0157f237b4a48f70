package protocol

// Code is a listed word for what went wrong; PROTOCOL.md tells each one's meaning.
type Code string

// The codes. A client gets no other.
const (
	CodeBadMessage     Code = "bad_message"     // not JSON, a field missing or of the wrong kind, a limit broken
	CodeUnknownType    Code = "unknown_type"    // a type that this server does not know
	CodeBadDescription Code = "bad_description" // SDP that no call of ours can have
	CodeVersion        Code = "version"         // hello names another protocol version
	CodeUnauthorized   Code = "unauthorized"    // the token is missing, wrong or expired
	CodeSignedOut      Code = "signed_out"      // the token's user has signed out everywhere
	CodeBadName        Code = "bad_name"        // the name is empty, too long or has characters that cannot be seen
	CodeNameTaken      Code = "name_taken"      // somebody else here has that name, or one that looks like it
	CodeRateLimited    Code = "rate_limited"    // too many of these; wait and try again
	CodeUnknownCall    Code = "unknown_call"    // no such call, or it is not this user's
	CodeWrongState     Code = "wrong_state"     // the call is not in a state for that
	CodeWrongSession   Code = "wrong_session"   // another session of the user is in this call
	CodeBadTicket      Code = "bad_ticket"      // the ticket is forged, expired or not this user's
	CodeInCall         Code = "in_call"         // this user is in a call already
	CodeNoCallYet      Code = "no_call_yet"     // this takes a user who has been in a call
	CodeSelf           Code = "self"            // nobody can ring themselves
	CodeNotFound       Code = "not_found"       // no such thing (HTTP)
	CodeFull           Code = "full"            // the server has as much of these as it takes
	CodeUnavailable    Code = "unavailable"     // the server cannot tell now; ask again in some seconds
	CodeRestarting     Code = "restarting"      // the server stops and takes nothing new
	CodeInternal       Code = "internal"        // the server's fault; its log says more
)

// Error is a failure that a client may see: a listed word and a sentence.
type Error struct {
	// Ref is that of the message which failed, Call its call.
	Ref     string `json:"ref,omitempty"`
	Call    CallID `json:"call,omitempty"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Error implements the error interface.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf is an [Error] without its call: a code and a sentence for a person.
func Errorf(code Code, sentence string) *Error { return &Error{Code: code, Message: sentence} }

// CloseCode is why the server closed a connection (RFC 6455 §7.4.2: 4000–4999
// are private use).
type CloseCode uint16

// The close codes: up to 4499 "come back", from 4500 on "do not".
const (
	CloseRestarting CloseCode = 4000 // the server stops; come back as told
	CloseSlow       CloseCode = 4001 // the client did not read; the session can be resumed
	CloseSilent     CloseCode = 4002 // two pings went unanswered
	CloseInternal   CloseCode = 4003 // the server failed; the session can be resumed
	CloseFull       CloseCode = 4004 // hello was refused for now; try later

	CloseBadMessage CloseCode = 4500 // no JSON text, over and over
	CloseTooLarge   CloseCode = 4501 // a frame over the limit
	CloseFlood      CloseCode = 4502 // far more messages than the limit
	CloseReplaced   CloseCode = 4503 // another connection has taken this session
	CloseRefused    CloseCode = 4504 // hello was refused; the error before says why
	CloseNoHello    CloseCode = 4505 // no hello in time
	CloseSignedOut  CloseCode = 4506 // the user has signed out everywhere
)

// EndReason is why a call ended.
type EndReason string

// The end reasons.
const (
	ReasonHungup      EndReason = "hungup"      // either party ended it
	ReasonCanceled    EndReason = "canceled"    // the caller gave up while it rang
	ReasonDeclined    EndReason = "declined"    // the callee refused
	ReasonUnanswered  EndReason = "unanswered"  // the ring time ran out
	ReasonUnreachable EndReason = "unreachable" // no device confirmed that it rings
	ReasonBusy        EndReason = "busy"        // the callee is in a call
	ReasonBlocked     EndReason = "blocked"     // recorded only: the caller is told unreachable
	ReasonMerged      EndReason = "merged"      // both rang each other; the other call goes on
	ReasonMigrated    EndReason = "migrated"    // taken up by another call
	ReasonFailed      EndReason = "failed"      // accepted, but media never came
	ReasonLost        EndReason = "lost"        // media was up and never came back, or a party vanished
	ReasonLimit       EndReason = "limit"       // a limit of the server
	ReasonTerminated  EndReason = "terminated"  // whoever runs the server ended it
	ReasonRestarted   EndReason = "restarted"   // the server could not keep it
)

// Missed reports whether a call that ended so is a missed call for its callee.
func (r EndReason) Missed() bool {
	switch r {
	case ReasonCanceled, ReasonUnanswered, ReasonUnreachable, ReasonBusy:
		return true
	}
	return false
}
