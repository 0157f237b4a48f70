package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

const (
	// loginsBound is how many logins wait for the database: about 4 MB.
	loginsBound = 1 << 14
	// userLogins is how many logins of one user are kept. There are several only where a
	// token of an older version is exchanged again and again.
	userLogins = 20
	// signOutAge is how long it is kept that a user has signed out: a little longer than any
	// token of theirs is good for.
	signOutAge = account.LoginAge + 48*time.Hour
)

// KeepLogin hands over a login, to be written soon, with the records that are handed over
// later or in the same transaction. It waits for nothing, and reports whether there was room.
func (s *Store) KeepLogin(l account.Login) bool {
	s.mu.Lock()
	_, waits := s.logins[l.Hash]
	room := !s.closed && (waits || len(s.logins) < loginsBound)
	if room {
		s.logins[l.Hash] = l
	}
	s.mu.Unlock()
	if room {
		s.rouse()
	}
	return room
}

// takeLoginsLocked takes some of the logins that wait, to be written.
func (s *Store) takeLoginsLocked() []account.Login {
	var batch []account.Login
	for hash, l := range s.logins {
		if len(batch) == batchBound {
			break
		}
		batch = append(batch, l)
		delete(s.logins, hash)
	}
	s.writingLogins = batch
	return batch
}

// settleLoginsLocked has those that were not written wait again, but for those that
// changed meanwhile.
func (s *Store) settleLoginsLocked(written bool) {
	for _, l := range s.writingLogins {
		if _, newer := s.logins[l.Hash]; !written && !newer && !s.closed {
			s.logins[l.Hash] = l
		}
	}
	s.writingLogins = nil
}

// waitingLogin is a login that is not yet written.
func (s *Store) waitingLogin(hash account.Hash) (account.Login, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.logins[hash]; ok {
		return l, true
	}
	for _, l := range s.writingLogins {
		if l.Hash == hash {
			return l, true
		}
	}
	return account.Login{}, false
}

// Login is the login of a token, whether there is one, and whether its user has signed out
// everywhere. It sees every login that was handed over before. It is one indexed read.
func (s *Store) Login(ctx context.Context, hash account.Hash) (l account.Login, found, signedOut bool, err error) {
	if l, waits := s.waitingLogin(hash); waits {
		signedOut, err = s.SignedOut(ctx, l.User.ID)
		return l, true, signedOut, err
	}
	l.Hash = hash
	var created, used int64
	err = s.read.QueryRowContext(ctx, `
		SELECT user_id, user_name, created_at, used_at, EXISTS (SELECT 1 FROM sign_outs WHERE sign_outs.user_id = logins.user_id)
		FROM logins WHERE hash = $1`, hash[:]).Scan(&l.User.ID, &l.User.Name, &created, &used, &signedOut)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Login{}, false, false, nil
	}
	if err != nil {
		return account.Login{}, false, false, fmt.Errorf("read a login: %w", err)
	}
	l.CreatedAt, l.UsedAt = time.UnixMilli(created).UTC(), time.UnixMilli(used).UTC()
	return l, true, signedOut, nil
}

// SignedOut reports whether a user has signed out everywhere.
func (s *Store) SignedOut(ctx context.Context, user protocol.UserID) (bool, error) {
	var out bool
	err := s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sign_outs WHERE user_id = $1)`, storable(user)).Scan(&out)
	if err != nil {
		return false, fmt.Errorf("read whether a user has signed out: %w", err)
	}
	return out, nil
}

// AddLogin writes a login now. Of more than twenty of one user those used longest ago go.
func (s *Store) AddLogin(ctx context.Context, l account.Login) error {
	err := s.inTime(ctx, func(tx *sql.Tx) error {
		if err := insertLogins(ctx, tx, []account.Login{l}); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			DELETE FROM logins WHERE user_id = $1 AND hash NOT IN (
				SELECT hash FROM logins WHERE user_id = $1 ORDER BY used_at DESC, created_at DESC LIMIT $2
			)`, storable(l.User.ID), userLogins)
		return err
	})
	if err != nil {
		return fmt.Errorf("add a login: %w", err)
	}
	return nil
}

// SignOut makes all logins of a user void, and forgets the devices that are pushed for them.
func (s *Store) SignOut(ctx context.Context, user protocol.UserID, now time.Time) error {
	err := s.inTime(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sign_outs (user_id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			storable(user), now.UnixMilli())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM push_devices WHERE user_id = $1`, storable(user))
		return err
	})
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

func insertLogins(ctx context.Context, tx *sql.Tx, logins []account.Login) error {
	if len(logins) == 0 {
		return nil
	}
	var rows []string
	var values []any
	for _, l := range logins {
		values = append(values, l.Hash[:], storable(l.User.ID), storable(l.User.Name), l.CreatedAt.UnixMilli(), l.UsedAt.UnixMilli())
		n := len(values)
		rows = append(rows, fmt.Sprintf("($%d, $%d, $%d, $%d, $%d)", n-4, n-3, n-2, n-1, n))
	}
	_, err := tx.ExecContext(ctx,
		"INSERT INTO logins (hash, user_id, user_name, created_at, used_at) VALUES "+strings.Join(rows, ", ")+
			" ON CONFLICT (hash) DO UPDATE SET user_name = excluded.user_name, used_at = excluded.used_at", values...)
	return err
}

// deleteLogins deletes up to forgetBatch logins that have expired, and the sign-outs that
// no token needs any more.
func (s *Store) deleteLogins(ctx context.Context, now time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	result, err := s.write.ExecContext(ctx, `
		DELETE FROM logins WHERE hash IN (
			SELECT hash FROM logins WHERE used_at <= $1 ORDER BY used_at LIMIT $2
		)`, now.Add(-account.LoginAge).UnixMilli(), forgetBatch)
	if err != nil {
		return 0, fmt.Errorf("delete logins: %w", err)
	}
	if _, err := s.write.ExecContext(ctx, `DELETE FROM sign_outs WHERE at <= $1`, now.Add(-signOutAge).UnixMilli()); err != nil {
		return 0, fmt.Errorf("delete sign-outs: %w", err)
	}
	return result.RowsAffected()
}

// inTransaction does what is to be written together.
func (s *Store) inTransaction(ctx context.Context, write func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := write(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// inTime is inTransaction for somebody who waits: it returns when ctx ends, also while SQLite
// waits for another process, which it does to its own time-out. What is late is taken back.
func (s *Store) inTime(ctx context.Context, write func(*sql.Tx) error) error {
	done := make(chan error, 1)
	s.late.Go(func() { done <- s.inTransaction(ctx, write) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
