package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// acquaintance says that user knows other. It is not symmetric.
type acquaintance struct{ user, other protocol.UserID }

// acquaintancesOf returns who knows whom by a call: the caller knows the callee, and a callee who has accepted knows
// the caller.
func acquaintancesOf(r call.Record) []acquaintance {
	if r.AcceptedAt.IsZero() {
		return []acquaintance{{r.Caller.ID, r.Callee.ID}}
	}
	return []acquaintance{{r.Caller.ID, r.Callee.ID}, {r.Callee.ID, r.Caller.ID}}
}

// insertAcquaintances writes who knows whom by these calls.
func insertAcquaintances(ctx context.Context, tx *sql.Tx, records []call.Record) error {
	if len(records) == 0 {
		return nil
	}
	var rows []string
	var values []any
	for _, r := range records {
		for _, a := range acquaintancesOf(r) {
			values = append(values, storable(a.user), storable(a.other))
			rows = append(rows, fmt.Sprintf("($%d, $%d)", len(values)-1, len(values)))
		}
	}
	_, err := tx.ExecContext(ctx,
		"INSERT INTO acquaintances (user_id, other_id) VALUES "+strings.Join(rows, ", ")+" ON CONFLICT DO NOTHING", values...)
	return err
}

// acquaintancesBound is how many acquaintances each half of recentAcquaintances holds: those of all records that may
// wait for the database, and more.
const acquaintancesBound = 4 * queueBound

// recentAcquaintances are those of the latest records. So a ring does not wait until the database has the record of an
// earlier call.
type recentAcquaintances struct {
	mu sync.Mutex
	// young and old are guarded by mu. When young is full it becomes old, and the previous old is dropped.
	young, old map[acquaintance]struct{}
}

func (r *recentAcquaintances) add(record call.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range acquaintancesOf(record) {
		if len(r.young) >= acquaintancesBound {
			r.old, r.young = r.young, nil
		}
		if r.young == nil {
			r.young = map[acquaintance]struct{}{}
		}
		r.young[a] = struct{}{}
	}
}

func (r *recentAcquaintances) has(a acquaintance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, young := r.young[a]
	_, old := r.old[a]
	return young || old
}
