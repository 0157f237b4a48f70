package account

import (
	"context"
	"log/slog"
	"time"

	"github.com/visavis/visavis/protocol"
)

// Presence knows which users have a session.
type Presence interface {
	// Here returns a user who has a session, and their preferences for a ring. here reports
	// whether the user has a session.
	Here(protocol.UserID) (u protocol.User, prefers protocol.Prefer, here bool)
}

// Acquaintances knows who has talked to whom.
type Acquaintances interface {
	// Knows reports whether a user has ever rung another one, or accepted a call of theirs.
	// It may block until ctx is done. It must take as long for a user who does not exist.
	Knows(ctx context.Context, user, other protocol.UserID) (bool, error)
}

// Devices knows which users can be rung without a session.
type Devices interface {
	// Reachable returns a user who has a device that can be pushed to, and whether they want
	// no rings. ok reports whether the user has such a device.
	Reachable(protocol.UserID) (u protocol.User, doNotDisturb, ok bool)
}

// Entry is what a [Directory] knows about a callee.
type Entry struct {
	User protocol.User
	// Reachable says that the callee can be rung: in a session, or on a device by push.
	Reachable bool
	// Knows says that the callee knows the caller.
	Knows bool
	// Prefers are the callee's preferences for a ring.
	Prefers protocol.Prefer
}

// Directory knows who may ring whom, and how. Any goroutine may call its methods.
type Directory struct {
	presence Presence
	records  Acquaintances
	devices  Devices // may be nil
	log      *slog.Logger
}

// NewDirectory returns a directory of the users who have a session or a device. devices may
// be nil.
func NewDirectory(presence Presence, records Acquaintances, devices Devices, log *slog.Logger) *Directory {
	return &Directory{presence, records, devices, log}
}

const (
	// awayPatience bounds how long a ring of a user without a session waits for the records.
	awayPatience = time.Second
	// herePatience is the bound for a user with a session, who is rung in any case.
	herePatience = 200 * time.Millisecond
)

// Find returns the entry of a callee. A user without a session is woken only for callers whom
// they know. Any other caller gets the same answer, after the same delay, as for a user who
// does not exist.
func (d *Directory) Find(ctx context.Context, caller, callee protocol.UserID) Entry {
	var f Entry
	_, _, here := d.presence.Here(callee)
	switch { // before Devices is asked, which a stranger must not be able to notice
	case here:
		f.Knows = d.knows(ctx, callee, caller, herePatience)
	case d.devices != nil:
		f.Knows = d.knows(ctx, callee, caller, awayPatience)
	}
	f.User, f.Prefers, f.Reachable = d.presence.Here(callee) // the callee may have come or left meanwhile
	if f.Reachable {
		return f
	}
	if f.Knows && d.devices != nil {
		f.User, f.Prefers.DoNotDisturb, f.Reachable = d.devices.Reachable(callee)
	}
	if !f.Reachable {
		f.User = protocol.User{ID: callee}
	}
	f.User.Presence = protocol.Offline
	return f
}

// knows reports whether the records say that a user knows another one. If they cannot be
// read in time it reports false, so that a slow database lets no stranger wake anybody.
func (d *Directory) knows(ctx context.Context, user, other protocol.UserID, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	knows, err := d.records.Knows(ctx, user, other)
	if err != nil {
		d.log.Warn("a caller counts as a stranger: the records cannot be read", "err", err)
	}
	return knows && err == nil
}
