package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/protocol"
)

// columns are those of a record, in the order in which insertRows writes and scanRecords reads them.
const columns = `id, caller_id, caller_name, callee_id, callee_name, video, rung_at, accepted_at, ended_at, reason, relayed, detail`

// columnCount is how many columns there are.
const columnCount = 12

// insertRecords writes records. The record of a call that goes on is for the next start of the node; that of an ended
// call replaces it. An ended call stays as it was first written.
func insertRecords(ctx context.Context, tx *sql.Tx, records []call.Record) error {
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
	return errors.Join(
		insertRows(ctx, tx, living, "DO NOTHING"),
		insertRows(ctx, tx, ended, `(id) DO UPDATE SET accepted_at = excluded.accepted_at, ended_at = excluded.ended_at,
			reason = excluded.reason, relayed = excluded.relayed, detail = excluded.detail WHERE calls.ended_at = 0`),
		insertAcquaintances(ctx, tx, records),
	)
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

// storable replaces what PostgreSQL does not accept in text: invalid UTF-8 and NUL. Otherwise one record that is always
// refused would hold up all records behind it.
func storable[T ~string](text T) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(text), "\uFFFD"), "\x00", "\uFFFD")
}
