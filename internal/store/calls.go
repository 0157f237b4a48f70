package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

const columns = `id, caller_id, caller_name, callee_id, callee_name, video, rung_at, accepted_at, ended_at, reason`

// columnCount is how many values a row of columns has.
const columnCount = 10

// insert writes records in one statement. Those that are there already stay as
// they are.
func (s *Store) insert(ctx context.Context, records []call.Record) error {
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
		values = append(values, storable(r.Call),
			storable(r.Caller.ID), storable(r.Caller.Name), storable(r.Callee.ID), storable(r.Callee.Name),
			r.Video, r.RungAt.UnixMilli(), accepted, r.EndedAt.UnixMilli(), storable(r.Reason))
	}
	text.WriteString(" ON CONFLICT DO NOTHING")
	_, err := s.write.ExecContext(ctx, text.String(), values...)
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
	s.settle(ctx)
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
			WHERE caller_id = $1 AND (rung_at, id) < ($2, $3) ORDER BY rung_at DESC, id DESC LIMIT $4
		) AS made
		UNION ALL
		SELECT `+columns+` FROM (
			SELECT * FROM calls
			WHERE callee_id = $1 AND caller_id <> $1 AND (rung_at, id) < ($2, $3) ORDER BY rung_at DESC, id DESC LIMIT $4
		) AS taken
		ORDER BY rung_at DESC, id DESC LIMIT $4`, user, rungAt, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	defer rows.Close()
	var records []call.Record
	for rows.Next() {
		var (
			r           call.Record
			rung, ended int64
			accepted    sql.NullInt64
		)
		err := rows.Scan(&r.Call, &r.Caller.ID, &r.Caller.Name, &r.Callee.ID, &r.Callee.Name,
			&r.Video, &rung, &accepted, &ended, &r.Reason)
		if err != nil {
			return nil, fmt.Errorf("read calls: %w", err)
		}
		r.RungAt, r.EndedAt = time.UnixMilli(rung).UTC(), time.UnixMilli(ended).UTC()
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
