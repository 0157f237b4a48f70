package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

const (
	// userLogins is how many logins of one user are kept. A user has several only if a token of an older version is
	// exchanged again and again.
	userLogins = 20
	// signOutAge is how long the store remembers that a user has signed out: a little longer than any token of theirs
	// is valid.
	signOutAge = account.LoginAge + 48*time.Hour
)

// Logins keeps the logins of users, and who has signed out everywhere. It is an [account.Logins].
//
// It has one goroutine, which deletes what has expired. [DB.Run] runs it and waits for it. Queued logins are written by
// the goroutine of DB.Run itself.
type Logins struct {
	log   *slog.Logger
	pools *pools
	queue *loginQueue
}

func newLogins(p *pools, wake signal, log *slog.Logger) *Logins {
	return &Logins{log: log, pools: p, queue: newLoginQueue(wake)}
}

// run deletes logins that have expired until ctx ends.
func (l *Logins) run(ctx context.Context) {
	forgetOld(ctx, l.log, "logins", func(now time.Time) (int64, error) { return l.deleteExpired(ctx, now) })
}

// KeepLogin hands over a login, to be written soon: before or together with the records that are handed over later. It
// does not block. It reports whether there was room.
func (l *Logins) KeepLogin(login account.Login) bool { return l.queue.add(login) }

// Login returns the login of a token, whether there is one, and whether its user has signed out everywhere. It sees
// every login that was handed over before. It costs one read by an index.
func (l *Logins) Login(ctx context.Context, hash account.Hash) (login account.Login, found, signedOut bool, err error) {
	if login, waits := l.queue.find(hash); waits {
		signedOut, err = l.SignedOut(ctx, login.User.ID)
		return login, true, signedOut, err
	}
	login.Hash = hash
	var created, used int64
	err = l.pools.read.QueryRowContext(ctx, `
		SELECT user_id, user_name, created_at, used_at, EXISTS (SELECT 1 FROM sign_outs WHERE sign_outs.user_id = logins.user_id)
		FROM logins WHERE hash = $1`, hash[:]).Scan(&login.User.ID, &login.User.Name, &created, &used, &signedOut)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Login{}, false, false, nil
	}
	if err != nil {
		return account.Login{}, false, false, fmt.Errorf("read a login: %w", err)
	}
	login.CreatedAt, login.UsedAt = time.UnixMilli(created).UTC(), time.UnixMilli(used).UTC()
	return login, true, signedOut, nil
}

// SignedOut reports whether a user has signed out everywhere.
func (l *Logins) SignedOut(ctx context.Context, user protocol.UserID) (bool, error) {
	var out bool
	err := l.pools.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sign_outs WHERE user_id = $1)`, storable(user)).Scan(&out)
	if err != nil {
		return false, fmt.Errorf("read whether a user has signed out: %w", err)
	}
	return out, nil
}

// AddLogin writes a login now. If the user then has more than twenty, those used longest ago are deleted. It returns
// when ctx ends, also while another process has locked the database.
func (l *Logins) AddLogin(ctx context.Context, login account.Login) error {
	err := l.pools.inTime(ctx, func(tx *sql.Tx) error {
		if err := insertLogins(ctx, tx, []account.Login{login}); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			DELETE FROM logins WHERE user_id = $1 AND hash NOT IN (
				SELECT hash FROM logins WHERE user_id = $1 ORDER BY used_at DESC, created_at DESC LIMIT $2
			)`, storable(login.User.ID), userLogins)
		return err
	})
	if err != nil {
		return fmt.Errorf("add a login: %w", err)
	}
	return nil
}

// SignOut makes all logins of a user void, and deletes their devices that can be pushed. It returns when ctx ends, as
// AddLogin does.
func (l *Logins) SignOut(ctx context.Context, user protocol.UserID, now time.Time) error {
	err := l.pools.inTime(ctx, func(tx *sql.Tx) error {
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

// deleteExpired deletes up to forgetBatch logins that have expired, and the sign-outs that no token needs any more. It
// returns how many logins it deleted.
func (l *Logins) deleteExpired(ctx context.Context, now time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	result, err := l.pools.write.ExecContext(ctx, `
		DELETE FROM logins WHERE hash IN (
			SELECT hash FROM logins WHERE used_at <= $1 ORDER BY used_at LIMIT $2
		)`, now.Add(-account.LoginAge).UnixMilli(), forgetBatch)
	if err != nil {
		return 0, fmt.Errorf("delete logins: %w", err)
	}
	if _, err := l.pools.write.ExecContext(ctx, `DELETE FROM sign_outs WHERE at <= $1`, now.Add(-signOutAge).UnixMilli()); err != nil {
		return 0, fmt.Errorf("delete sign-outs: %w", err)
	}
	return result.RowsAffected()
}
