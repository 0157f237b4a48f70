package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/certificate"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/relay/feed"
	"github.com/visavis/visavis/protocol"
)

// RelayKey is what signs the relay's credentials, made of [Relay.Secret].
func RelayKey(secret string) []byte {
	key := sha256.Sum256([]byte(secret))
	return key[:]
}

// relayKey is that of the configuration, or the one in the database.
func (n *Node) relayKey(ctx context.Context) ([]byte, error) {
	if n.cfg.Relay.Secret != "" {
		return RelayKey(n.cfg.Relay.Secret), nil
	}
	kept, err := n.store.Secret(ctx, "relay")
	if err != nil {
		return nil, fmt.Errorf("read the relay's secret: %w", err)
	}
	return RelayKey(string(kept)), nil
}

// newRelay binds a relay as the configuration says. One that is alone is told of
// calls by nodes elsewhere, and scoped to them unless it should not be.
func newRelay(
	cfg Config, key []byte, alone bool, source *certificate.Source, log *slog.Logger, reg prometheus.Registerer,
) (*relay.Server, error) {
	r := cfg.Relay
	rc := relayConfig(r)
	rc.Proxies = cfg.Proxies
	rc.Secrets, rc.CallScoped, rc.Fed = [][]byte{key}, !alone || r.Scoped, alone
	var err error
	if rc.Listener, err = relay.Listen(r.Listen.AddrPort); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	rc.GetCertificate = getCertificate(source)
	if r.TLSListen.IsValid() {
		if rc.TLSListener, err = relay.Listen(r.TLSListen.AddrPort); err != nil {
			return nil, errors.Join(fmt.Errorf("relay: %w", err), rc.Listener.Close())
		}
	}
	return relay.New(rc, log, reg)
}

// relayConfig is what a valid configuration says of a relay, but for what has to be read from elsewhere.
func relayConfig(r Relay) relay.Config {
	return relay.Config{
		TLSName: r.TLSName, Host: r.Host, PublicPort: r.PublicPort, TLSPublicPort: r.TLSPublicPort, Local: lanAddresses,
		MinPort: r.MinPort, MaxPort: r.MaxPort, MaxAllocations: r.MaxAllocations, BitRate: r.BitRate, PacketRate: r.PacketRate,
		SourceAllocations: r.SourceAllocations, SourceBitRate: r.SourceBitRate, TotalBitRate: r.TotalBitRate,
		MaxConnections: r.MaxConnections, SourceConnections: r.SourceConnections, SourceRequests: r.SourceRequests,
		Workers: r.Workers, Coalesce: r.Coalesce, Address: r.Address, OtherAddress: r.OtherAddress,
		Allow: slices.Concat(r.Allow), // nil, which has a default, also for an empty list
	}
}

// PlannedURLs are the relay URLs that clients would be told now with this valid configuration, which may name addresses
// that the machine does not have yet. Nothing is opened.
func (r Relay) PlannedURLs() ([]string, error) {
	if !r.Enabled {
		return texts(r.Others), nil
	}
	urls, err := relayConfig(r).PlannedURLs(r.Listen.AddrPort, r.TLSListen.AddrPort)
	return append(urls, texts(r.Others)...), err
}

// texts are URLs as clients are told them.
func texts(urls []feed.URL) []string {
	var all []string
	for _, u := range urls {
		all = append(all, u.String())
	}
	return all
}

// newFeed is the way to tell the relays that stand alone of calls. All relays
// count as such in relay-only calls.
func (n *Node) newFeed(key []byte, reg prometheus.Registerer) (*feed.Feed, error) {
	return feed.New(feed.Config{
		Relays: n.cfg.Relay.Others, Secret: key, Log: n.log, Registerer: reg,
		Addresses: func() []netip.Addr {
			all := n.others.addresses()
			if n.relay != nil {
				all = append(all, n.relay.RelayedAddresses()...)
			}
			return all
		},
	})
}

// toldRelays are told of the node's calls: its own relay, and those that stand alone.
type toldRelays struct {
	own    *relay.Server // may be nil
	others *feed.Feed    // may be nil
}

// Permit implements [call.Relay].
func (r toldRelays) Permit(call protocol.CallID, party protocol.UserID, addrs []netip.Addr) {
	if r.own != nil {
		r.own.Permit(string(call), string(party), addrs...)
	}
	if r.others != nil {
		r.others.Permit(string(call), string(party), addrs...)
	}
}

// RelayOnly implements [call.Relay].
func (r toldRelays) RelayOnly(call protocol.CallID, on bool) {
	if r.own != nil {
		r.own.RelayOnly(string(call), on)
	}
	if r.others != nil {
		r.others.RelayOnly(string(call), on)
	}
}

// EndCall implements [call.Relay].
func (r toldRelays) EndCall(call protocol.CallID) (bytes uint64) {
	if r.own != nil {
		bytes = r.own.EndCall(string(call)).Bytes()
	}
	if r.others != nil {
		bytes += r.others.EndCall(string(call))
	}
	return bytes
}

// iceServers are what clients are told of our relays.
type iceServers struct {
	key    []byte
	age    time.Duration   // of the credentials
	own    func() []string // URLs of our own at the moment; nil when it is off
	others []feed.URL      // of those that stand alone
}

// ownURLs are the STUN and the TURN URLs of our own relay.
func (s iceServers) ownURLs() (stun, turn []string) {
	if s.own == nil {
		return nil, nil
	}
	for _, url := range s.own() {
		if strings.HasPrefix(url, "stun:") {
			stun = append(stun, url)
		} else {
			turn = append(turn, url)
		}
	}
	return stun, turn
}

// forSession are those for a session: STUN only, because relaying is for calls.
func (s iceServers) forSession(protocol.UserID, string) []protocol.ICEServer {
	stun, _ := s.ownURLs()
	if len(stun) == 0 {
		return nil
	}
	return []protocol.ICEServer{{URLs: stun}}
}

// forCall are those for a party of a call, each relay by itself.
func (s iceServers) forCall(user protocol.UserID, call string) []protocol.ICEServer {
	servers := s.forSession(user, call)
	var relays [][]string
	if _, turn := s.ownURLs(); len(turn) > 0 {
		relays = append(relays, turn)
	}
	for i, url := range s.others {
		if i > 0 && url.Address() == s.others[i-1].Address() {
			relays[len(relays)-1] = append(relays[len(relays)-1], url.String())
		} else {
			relays = append(relays, []string{url.String()})
		}
	}
	for _, urls := range relays {
		c := relay.Issue(s.key, string(user), call, string(user), time.Now(), s.age)
		servers = append(servers, protocol.ICEServer{URLs: slices.Clone(urls), Username: c.Username, Credential: c.Password})
	}
	return servers
}
