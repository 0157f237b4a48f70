// Package origin says where a message or a piece of news comes from. Hub makes it, and call
// goes by it, so that nobody looks up later what was true when something was said.
package origin

import (
	"net/netip"

	"github.com/visavis/visavis/protocol"
)

// Origin is the session that something comes from, as it was at that moment.
type Origin struct {
	Session protocol.SessionID
	User    protocol.User
	// Address is the IP address of its connection; invalid when it has none, or that is not known.
	Address netip.Addr
	// AlwaysRelay says that it wants its addresses hidden in every call.
	AlwaysRelay bool
}
