package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

const columns = `id, caller_id, caller_name, callee_id, callee_name, video, rung_at, accepted_at, ended_at, reason, relayed, detail`

// columnCount is how many values a row of columns has.
const columnCount = 12

// insert writes logins and records: those of calls that live for the next start of a node to
// find, those of ended ones over them. An ended one stays as it was first written.
func (s *Store) insert(ctx context.Context, records []call.Record, logins []account.Login) error {
	var living, ended []call.Record
	seen := map[protocol.CallID]bool{}
	for _, r := range records {
		switch {
		case r.EndedAt.IsZero():
			living = append(living, r)
		case !seen[r.Call]: // one statement may not write a row twice
			seen[r.Call] = true
			ended = append(ended, r)
		}
	}
	return s.inTransaction(ctx, func(tx *sql.Tx) error {
		return errors.Join(
			insertLogins(ctx, tx, logins),
			insertRows(ctx, tx, living, "DO NOTHING"),
			insertRows(ctx, tx, ended, `(id) DO UPDATE SET accepted_at = excluded.accepted_at, ended_at = excluded.ended_at,
			reason = excluded.reason, relayed = excluded.relayed, detail = excluded.detail WHERE calls.ended_at = 0`),
			insertAcquaintances(ctx, tx, records),
		)
	})
}

func insertRows(ctx context.Context, tx *sql.Tx, records []call.Record, onConflict string) error {
	if len(records) == 0 {
		return nil
	}
	var text strings.Builder
	text.WriteString("INSERT INTO calls (" + columns + ") VALUES ")
	values := make([]any, 0, columnCount*len(records))
	for i, r := range records {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteByte('(')
		for j := range columnCount {
			if j > 0 {
				text.WriteString(", ")
			}
			fmt.Fprintf(&text, "$%d", columnCount*i+j+1)
		}
		text.WriteByte(')')
		accepted := sql.NullInt64{Int64: r.AcceptedAt.UnixMilli(), Valid: !r.AcceptedAt.IsZero()}
		var ended int64 // 0 while the call lives
		if !r.EndedAt.IsZero() {
			ended = r.EndedAt.UnixMilli()
		}
		values = append(values, storable(r.Call),
			storable(r.Caller.ID), storable(r.Caller.Name), storable(r.Callee.ID), storable(r.Callee.Name),
			r.Video, r.RungAt.UnixMilli(), accepted, ended, storable(r.Reason), int64(r.RelayedBytes), storable(r.Detail)) //nolint:gosec // nine exabytes
	}
	text.WriteString(" ON CONFLICT " + onConflict)
	_, err := tx.ExecContext(ctx, text.String(), values...)
	return err
}

// insertAcquaintances notes who knows whom by these calls.
func insertAcquaintances(ctx context.Context, tx *sql.Tx, records []call.Record) error {
	if len(records) == 0 {
		return nil
	}
	var rows []string
	var values []any
	for _, r := range records {
		for _, m := range meetingsOf(r) {
			values = append(values, storable(m.user), storable(m.other))
			rows = append(rows, fmt.Sprintf("($%d, $%d)", len(values)-1, len(values)))
		}
	}
	_, err := tx.ExecContext(ctx,
		"INSERT INTO acquaintances (user_id, other_id) VALUES "+strings.Join(rows, ", ")+" ON CONFLICT DO NOTHING", values...)
	return err
}

// storable is text that PostgreSQL takes, so that no record can be refused for
// good and hold up those behind it.
func storable[T ~string](text T) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(text), "\uFFFD"), "\x00", "\uFFFD")
}

// Recent are a user's ended calls, newest first: limit of them, those before the
// call named, or the newest when none is. It sees every record that was handed
// over before, unless the database is behind. A call that is not the user's is a
// [*protocol.Error] with CodeUnknownCall.
func (s *Store) Recent(ctx context.Context, user protocol.UserID, before protocol.CallID, limit int) ([]call.Record, error) {
	s.settle(ctx, settleTimeout)
	rungAt := int64(math.MaxInt64)
	if before != "" {
		err := s.read.QueryRowContext(ctx,
			`SELECT rung_at FROM calls WHERE id = $1 AND (caller_id = $2 OR callee_id = $2)`, before, user).Scan(&rungAt)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, protocol.Errorf(protocol.CodeUnknownCall, "no such call among this user's")
		}
		if err != nil {
			return nil, fmt.Errorf("read call %s: %w", before, err)
		}
	}
	// Two walks of one index each: with OR both databases would sort all calls of
	// the user.
	rows, err := s.read.QueryContext(ctx, `
		SELECT `+columns+` FROM (
			SELECT * FROM calls
			WHERE caller_id = $1 AND ended_at > 0 AND (rung_at, id) < ($2, $3) ORDER BY rung_at DESC, id DESC LIMIT $4
		) AS made
		UNION ALL
		SELECT `+columns+` FROM (
			SELECT * FROM calls
			WHERE callee_id = $1 AND caller_id <> $1 AND ended_at > 0 AND (rung_at, id) < ($2, $3) ORDER BY rung_at DESC, id DESC LIMIT $4
		) AS taken
		ORDER BY rung_at DESC, id DESC LIMIT $4`, user, rungAt, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	return scanRecords(rows)
}

// Living are the accepted calls of a node that have no end yet: when it starts,
// those that it had when it stopped. node is the first part of their ids.
func (s *Store) Living(ctx context.Context, node string) ([]call.Record, error) {
	rows, err := s.read.QueryContext(ctx,
		`SELECT `+columns+` FROM calls WHERE ended_at = 0 AND substr(id, 1, $1) = $2`, len(node)+1, node+"-")
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	living, err := scanRecords(rows)
	return slices.DeleteFunc(living, func(r call.Record) bool { return s.ends.ended(r.Call) }), err
}

// Lives reports whether a call that was accepted then goes on. It is true only where
// that is proven: by the log of ended calls, which has no end of it and was kept since
// before its accept, or by a record without an end. An error says that the database
// cannot tell now.
func (s *Store) Lives(ctx context.Context, id protocol.CallID, accepted time.Time) (bool, error) {
	if s.ends.ended(id) {
		return false, nil
	}
	if s.ends.covers(accepted) {
		return true, nil
	}
	var lives bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM calls WHERE id = $1 AND ended_at = 0)`, id).Scan(&lives)
	if err != nil {
		return false, fmt.Errorf("read call %s: %w", id, err)
	}
	return lives, nil
}

// EndedSince are the accepted calls that ended after t, as far as the log of ended
// calls remembers them: the last 4096.
func (s *Store) EndedSince(t time.Time) []protocol.CallID {
	var ids []protocol.CallID
	for _, r := range s.ends.youngerThan(t) {
		ids = append(ids, r.Call)
	}
	return ids
}

// Knows reports whether a user has rung another one, or accepted a call of theirs: also
// one that goes on. It sees every record that was handed over before, also where the
// database is behind. Whether there are such users makes no difference to how long it takes.
func (s *Store) Knows(ctx context.Context, user, other protocol.UserID) (bool, error) {
	if s.met.has(meeting{user, other}) {
		return true, nil
	}
	var knows bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM acquaintances WHERE user_id = $1 AND other_id = $2)`,
		storable(user), storable(other)).Scan(&knows)
	if err != nil {
		return false, fmt.Errorf("read calls between two: %w", err)
	}
	return knows, nil
}

// HasCalled reports whether a user has rung anybody, or accepted a call, ever. It sees
// every record that was handed over before, unless the database is behind.
func (s *Store) HasCalled(ctx context.Context, user protocol.UserID) (bool, error) {
	s.settle(ctx, settleTimeout)
	var has bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM acquaintances WHERE user_id = $1)`, storable(user)).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("read whether a user was in a call: %w", err)
	}
	return has, nil
}

func scanRecords(rows *sql.Rows) ([]call.Record, error) {
	defer rows.Close()
	var records []call.Record
	for rows.Next() {
		var (
			r           call.Record
			rung, ended int64
			accepted    sql.NullInt64
		)
		err := rows.Scan(&r.Call, &r.Caller.ID, &r.Caller.Name, &r.Callee.ID, &r.Callee.Name,
			&r.Video, &rung, &accepted, &ended, &r.Reason, &r.RelayedBytes, &r.Detail)
		if err != nil {
			return nil, fmt.Errorf("read calls: %w", err)
		}
		r.RungAt = time.UnixMilli(rung).UTC()
		if ended != 0 {
			r.EndedAt = time.UnixMilli(ended).UTC()
		}
		if accepted.Valid {
			r.AcceptedAt = time.UnixMilli(accepted.Int64).UTC()
		}
		records = append(records, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	return records, nil
}
