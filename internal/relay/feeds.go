package relay

import (
	"errors"
	"time"

	"github.com/visavis/visavis/internal/relay/feed"
	"github.com/visavis/visavis/internal/relay/wire"
)

const (
	// mostFeeds bounds the servers that one relay listens to.
	mostFeeds = 64
	// mostRelays bounds the addresses of relays that they name.
	mostRelays = 256
	// reportSize is how many calls a frame tells of: some 150 bytes each.
	reportSize = 256
)

var errManyFeeds = errors.New("too many feeds")

// opensFeed tells whether a connection begins as a server's does, not as a TURN client's.
func (c *stream) opensFeed() bool {
	if !c.server.cfg.Fed {
		return false
	}
	_ = c.conn.SetReadDeadline(c.begun.Add(c.server.patience))
	b, err := c.buffer.Peek(1)
	return err == nil && wire.OpeningOf(b[0]) == wire.Feed
}

// heed does what a server tells until it goes, breaks the framing or is too slow.
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
	s.connections.settle(c)
	if !s.fed.Swap(true) {
		s.log.Info("a server tells of calls")
	}
	reported := make(map[string]uint64) // by live call of which it has spoken
	var looked time.Time
	for {
		if err := c.conn.SetDeadline(time.Now().Add(s.patience)); err != nil {
			return err
		}
		var news feed.News
		if err := conn.Receive(&news); err != nil {
			return err
		}
		s.control.learn(s.now(), &news, reported)
		var usage []feed.Usage
		if time.Since(looked) >= feed.Beat/2 { // a beat may come a little early
			looked = time.Now()
			usage = s.control.relayedSince(reported)
		}
		for ; len(usage) > reportSize; usage = usage[reportSize:] {
			if err := conn.Send(&feed.Report{Usage: usage[:reportSize]}); err != nil {
				return err
			}
		}
		if err := conn.Send(&feed.Report{Usage: usage}); err != nil {
			return err
		}
	}
}

// learn does what news say.
func (c *control) learn(now time.Time, news *feed.News, reported map[string]uint64) {
	if len(news.Relays) > 0 {
		c.addRelays(now, news.Relays)
	}
	for _, k := range news.Calls {
		if k.Ended {
			delete(reported, k.ID)
			c.endCall(now, k.ID)
			continue
		}
		if k.RelayOnly != nil {
			c.relayOnly(now, k.ID, *k.RelayOnly)
		}
		for party, addrs := range k.Shown {
			c.permit(now, k.ID, party, addrs)
		}
		reported[k.ID] += 0 // at least known
	}
}

// relayedSince is the usage of calls of which it is not what was reported last, and notes it there.
func (c *control) relayedSince(reported map[string]uint64) (changed []feed.Usage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, last := range reported {
		k := c.calls[id]
		if k == nil {
			delete(reported, id)
			continue
		}
		usage := k.usage
		for a := range k.live {
			usage.add(a)
		}
		if n := usage.Bytes(); n != last {
			reported[id] = n
			changed = append(changed, feed.Usage{Call: id, Bytes: n})
		}
	}
	return changed
}
