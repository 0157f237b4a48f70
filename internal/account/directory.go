package account

import (
	"context"
	"log/slog"
	"time"

	"github.com/visavis/visavis/protocol"
)

// Presence knows who is here.
type Presence interface {
	// Here is a user who has a session, what they want to become of a ring, and whether
	// they have one.
	Here(protocol.UserID) (u protocol.User, prefers protocol.Prefer, here bool)
}

// Acquaintances knows who has talked to whom.
type Acquaintances interface {
	// Knows reports whether a user has rung another one, or accepted a call of theirs, ever
	// before. It may take until ctx is done, and no longer for one who does not exist.
	Knows(ctx context.Context, user, other protocol.UserID) (bool, error)
}

// Devices knows who can be rung without a session.
type Devices interface {
	// Reachable is a user with a device that can be pushed to, whether they want to be
	// left alone, and whether there is such a user.
	Reachable(protocol.UserID) (u protocol.User, doNotDisturb, ok bool)
}

// Entry is what a [Directory] has of whom a caller rings.
type Entry struct {
	User protocol.User
	// Reachable says that something of theirs can ring: a session, or a device that is pushed to.
	Reachable bool
	// Knows says that they know the caller.
	Knows bool
	// Prefers is what they want to become of a ring.
	Prefers protocol.Prefer
}

// Directory knows who may ring whom, and how. Any goroutine may call its methods.
type Directory struct {
	presence Presence
	records  Acquaintances
	devices  Devices // may be nil
	log      *slog.Logger
}

// NewDirectory is a directory of those who are here and those who have devices, which may
// be nil.
func NewDirectory(presence Presence, records Acquaintances, devices Devices, log *slog.Logger) *Directory {
	return &Directory{presence, records, devices, log}
}

const (
	// awayPatience bounds how long a ring of somebody without a session waits for the records.
	awayPatience = time.Second
	// herePatience is that of somebody who has one: they are rung in any case.
	herePatience = 200 * time.Millisecond
)

// Find finds whom a caller rings. A user without a session is woken only for callers whom
// they know. Any other caller gets the same answer, after the same delay, as for a user who
// does not exist.
func (d *Directory) Find(ctx context.Context, caller, callee protocol.UserID) Entry {
	var f Entry
	_, _, here := d.presence.Here(callee)
	switch { // before anything is looked at that a stranger's user may not have
	case here:
		f.Knows = d.knows(ctx, callee, caller, herePatience)
	case d.devices != nil:
		f.Knows = d.knows(ctx, callee, caller, awayPatience)
	}
	f.User, f.Prefers, f.Reachable = d.presence.Here(callee) // who may have come, or gone, meanwhile
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

// knows reports whether the records say that a user knows another one. Where they cannot be
// read in time nobody is known: a slow database lets no stranger wake anybody.
func (d *Directory) knows(ctx context.Context, user, other protocol.UserID, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	knows, err := d.records.Knows(ctx, user, other)
	if err != nil {
		d.log.Warn("a caller counts as a stranger: the records cannot be read", "err", err)
	}
	return knows && err == nil
}
