package feed

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/visavis/visavis/internal/panics"
)

const (
	// soonest and latest bound the wait before a link is tried again: a relay that restarts is back within a second or
	// two, and until it is told of a call it refuses what the parties have shown.
	soonest = 100 * time.Millisecond
	latest  = 3 * time.Second
	// lastWords is how long a server that stops waits for a relay to take what is left to tell.
	lastWords = time.Second
)

// inFeed is where a panic is counted, which ends a connection with errPanic.
const inFeed = "a relay's feed"

var errPanic = errors.New("the server failed")

// A link is the way to one relay.
type link struct {
	feed    *Feed
	address string // host:port
	dial    func(context.Context) (net.Conn, error)
	woken   chan struct{} // has one element when there are news

	news map[string]struct{} // guarded by feed.mu: calls to tell of; nil while the link is down
	lost string              // owned by keep: why it is down, as was logged
}

func newLink(f *Feed, relay URL) *link {
	l := &link{feed: f, address: relay.Address(), woken: make(chan struct{}, 1)}
	l.dial = func(ctx context.Context) (net.Conn, error) {
		if relay.Secure {
			return (&tls.Dialer{Config: &tls.Config{ServerName: relay.Host, MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", l.address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.address)
	}
	return l
}

func (l *link) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// keep keeps the link up until ctx is done.
func (l *link) keep(ctx context.Context) {
	wait := soonest
	for {
		up, err := false, errPanic
		panics.Contain(l.feed.cfg.Log, inFeed, func() { up, err = l.try(ctx) })
		if ctx.Err() != nil {
			return
		}
		if up {
			wait = soonest
		}
		l.complain(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		wait = min(2*wait, latest)
	}
}

// complain logs why the link is down, once for each reason.
func (l *link) complain(err error) {
	why := "it is out of reach by TCP"
	switch {
	case errors.Is(err, ErrSecret):
		why = "its relay.secret is not this server's"
	case errors.Is(err, ErrNoFeed):
		why = "it takes no word of calls: it is of an earlier version, none of ours, or full"
	}
	if why != l.lost {
		l.lost = why
		l.feed.cfg.Log.Warn("a relay is not told of calls", "relay", l.address, "why", why, "error", err)
	}
}

// try has the link up for once, until it breaks or ctx is done.
func (l *link) try(ctx context.Context) (up bool, err error) {
	dialing, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	socket, err := l.dial(dialing)
	if err != nil {
		return false, err
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Now().Add(lastWords)) })
	defer stop()
	_ = socket.SetDeadline(time.Now().Add(Patience))
	var hello Report
	conn, err := Open(socket, l.feed.cfg.Secret, &hello)
	if err != nil {
		return false, err
	}
	l.feed.begin(l)
	defer l.feed.end(l)
	gauge := l.feed.up.WithLabelValues(l.address)
	gauge.Set(1)
	defer gauge.Set(0)
	l.lost = ""
	l.feed.cfg.Log.Info("a relay is told of calls", "relay", l.address)

	heard := make(chan error, 1)
	go func() {
		err := errPanic
		panics.Contain(l.feed.cfg.Log, inFeed, func() { err = l.listen(ctx, socket, conn, hello.Relay) })
		heard <- err
	}()
	err = l.tell(ctx, socket, conn, heard)
	_ = socket.Close()
	return true, cmp.Or(err, <-heard)
}

// listen heeds what the relay reports until the connection ends.
func (l *link) listen(ctx context.Context, socket net.Conn, conn *Conn, relay string) error {
	for {
		if ctx.Err() == nil {
			_ = socket.SetReadDeadline(time.Now().Add(Patience))
		}
		var report Report
		if err := conn.Receive(&report); err != nil {
			return err
		}
		l.feed.heed(relay, &report)
	}
}

// tell sends what is new until the connection breaks or ctx is done; and then, what is left, and waits until the relay has
// taken it.
func (l *link) tell(ctx context.Context, socket net.Conn, conn *Conn, heard chan error) error {
	beat := time.NewTicker(Beat)
	defer beat.Stop()
	var news News
	var told []netip.Addr
	for {
		if l.feed.cfg.Addresses != nil {
			if now := l.feed.cfg.Addresses(); !slices.Equal(now, told) {
				told, news.Relays = now, now
			}
		}
		news.Calls = l.feed.take(l)
		if len(news.Calls) == 0 && len(news.Relays) == 0 {
			select {
			case <-l.woken:
				continue
			case <-beat.C:
			case err := <-heard:
				heard <- err
				return nil
			case <-ctx.Done():
				if c, ok := socket.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
					heard <- <-heard
				}
				return nil
			}
		}
		if ctx.Err() == nil {
			_ = socket.SetWriteDeadline(time.Now().Add(Patience))
		}
		if err := conn.Send(&news); err != nil {
			return err
		}
		news.Relays = nil
	}
}
