package relay

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/visavis/visavis/internal/relay/feed"
)

const (
	// mostFeeds bounds the servers that one relay listens to.
	mostFeeds = 64
	// mostRelays bounds the addresses of relays that they name.
	mostRelays = 256
	// usageFrame is how many calls a frame tells of: some 150 bytes each.
	usageFrame = 256
)

// opensFeed tells whether a connection begins as a server's does, not as a TURN client's.
func (c *stream) opensFeed() bool {
	if !c.server.cfg.Fed {
		return false
	}
	_ = c.conn.SetReadDeadline(c.begun.Add(c.server.patience))
	b, err := c.buffer.Peek(1)
	return err == nil && b[0] == feed.Opening
}

// serveFeed does what a server tells until it goes, breaks the framing or is too slow.
func (c *stream) serveFeed() {
	s := c.server
	err := c.heed()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.metrics.drops.count(refuseTimeout)
	case !errors.Is(err, io.EOF):
		s.metrics.drops.count(refuseFeed)
	}
}

var errManyFeeds = errors.New("too many feeds")

func (c *stream) heed() error {
	s := c.server
	if err := c.conn.SetDeadline(c.begun.Add(s.patience)); err != nil {
		return err
	}
	conn, err := feed.Accept(c.conn, c.buffer, s.cfg.Secrets, &feed.Report{Relay: s.id})
	if err != nil {
		return err
	}
	defer s.metrics.feeds.Add(-1)
	if s.metrics.feeds.Add(1) > mostFeeds {
		return errManyFeeds
	}
	if !s.fed.Swap(true) {
		s.log.Info("a server tells of calls")
	}
	told := make(map[string]uint64)
	var looked time.Time
	for {
		if err := c.conn.SetDeadline(time.Now().Add(s.patience)); err != nil {
			return err
		}
		var news feed.News
		if err := conn.Receive(&news); err != nil {
			return err
		}
		usage := s.control.learn(s.now(), &news, told)
		if time.Since(looked) >= feed.Beat/2 { // a beat may come a little early
			looked = time.Now()
			usage = append(usage, s.control.relayedSince(told)...)
		}
		for {
			n := min(len(usage), usageFrame)
			if err := conn.Send(&feed.Report{Usage: usage[:n]}); err != nil {
				return err
			}
			if usage = usage[n:]; len(usage) == 0 {
				break
			}
		}
	}
}

// learn does what news say, and returns the usage of calls that they end. told gets the calls that they speak of, but
// those.
func (c *control) learn(now time.Time, news *feed.News, told map[string]uint64) (usage []feed.Usage) {
	if len(news.Relays) > 0 {
		c.relaysAre(now, news.Relays)
	}
	for _, k := range news.Calls {
		if k.Ended {
			delete(told, k.ID)
			usage = append(usage, feed.Usage{Call: k.ID, Bytes: c.endCall(now, k.ID).Bytes(), Ended: true})
			continue
		}
		if k.RelayOnly != nil {
			c.relayOnly(now, k.ID, *k.RelayOnly)
		}
		for party, addrs := range k.Shown {
			c.permit(now, k.ID, party, addrs)
		}
		if _, there := told[k.ID]; !there {
			told[k.ID] = 0
		}
	}
	return usage
}

// relayedSince is the usage of calls of which it is not what was told last, and notes it there.
func (c *control) relayedSince(told map[string]uint64) (changed []feed.Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, last := range told {
		k := c.calls[id]
		if k == nil {
			delete(told, id)
			continue
		}
		usage := k.usage
		for a := range k.live {
			usage.add(a)
		}
		if n := usage.Bytes(); n != last {
			told[id] = n
			changed = append(changed, feed.Usage{Call: id, Bytes: n})
		}
	}
	return changed
}

// unfed tells whether there are clients, but nobody has ever told what they may reach.
func (s *Server) unfed() bool {
	return s.cfg.Fed && s.cfg.CallScoped && !s.fed.Load() && s.metrics.allocations.Load() > 0
}
