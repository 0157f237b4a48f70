// Package node puts the parts of a server together, starts them and stops them
// in the order that loses nothing. It decides nothing else.
//
// Come in at [New], then [Node.Run].
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/internal/certificate"
	"github.com/visavis/visavis/internal/edge"
	"github.com/visavis/visavis/internal/hub"
	"github.com/visavis/visavis/internal/origin"
	"github.com/visavis/visavis/internal/outbox"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/relay/feed"
	"github.com/visavis/visavis/internal/socketio"
	"github.com/visavis/visavis/internal/store"
	"github.com/visavis/visavis/protocol"
)

// nodeName is the first part of the ids of this node's calls.
const nodeName = "n1"

// Node is one running server.
type Node struct {
	cfg         Config
	log         *slog.Logger
	store       *store.DB
	relay       *relay.Server  // nil when it is off
	feed        *feed.Feed     // nil without relays elsewhere
	others      *otherRelays   // where relays elsewhere are
	outbox      *outbox.Outbox // nil when push is off
	hub         *hub.Hub
	calls       *call.Switchboard
	edge        *edge.Server
	socketIO    *socketio.Server    // nil when it is off
	certificate *certificate.Source // nil without TLS
	admin       *httpServer         // nil when it is off
}

// New validates the configuration, opens the database and binds every address;
// nothing is served before Run. What it opened is closed if it fails.
func New(cfg Config, log *slog.Logger) (_ *Node, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	registry := newRegistry()
	n := &Node{cfg: cfg, log: log, others: newOtherRelays(cfg.Relay.Others, log)}

	if n.certificate, err = openCertificate(cfg); err != nil {
		return nil, err
	}
	n.store, err = store.Open(store.Config{
		URL: cfg.DatabaseURL(), EndLog: filepath.Join(cfg.Data, "ends-"+nodeName+".log"),
		Keep: cfg.Store.Keep,
	}, log, registry)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discardParts(n.parts()))
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	signedKey, signedUntil, err := n.store.RetiredSecret(ctx, "guests")
	if err != nil {
		return nil, fmt.Errorf("read the guests' secret: %w", err)
	}
	ice := iceServers{others: cfg.Relay.Others, age: cfg.Relay.CredentialLife}
	var relays call.Relay // stays nil without one
	if cfg.Relay.Enabled || len(ice.others) > 0 {
		if ice.key, err = n.relayKey(ctx); err != nil {
			return nil, err
		}
	}
	n.others.look(ctx)
	if cfg.Relay.Enabled {
		if n.relay, err = newRelay(cfg, ice.key, false, n.certificate, log, registry); err != nil {
			return nil, err
		}
		n.relay.Relays(n.others.addresses()...)
		ice.own = n.relay.URLs
	}
	if len(ice.others) > 0 {
		if n.feed, err = n.newFeed(ice.key, registry); err != nil {
			return nil, err
		}
	}
	if n.relay != nil || n.feed != nil {
		relays = toldRelays{n.relay, n.feed}
		// The credentials of calls that ended in an earlier run are still good by their date. Its setting may have
		// been another.
		for _, ended := range n.store.Records.EndedSince(time.Now().Add(-longestCredentials)) {
			relays.EndCall(ended)
		}
	}

	var pusher call.Pusher // stays nil without push, as the two below
	var reachable account.Devices
	var devices edge.PushDevices
	if cfg.Push.Enabled {
		if n.outbox, err = n.openOutbox(ctx, registry); err != nil {
			return nil, err
		}
		pusher, reachable, devices = n.outbox, n.outbox, n.outbox
	}
	ticketSecret, err := n.store.Secret(ctx, "tickets")
	if err != nil {
		return nil, fmt.Errorf("read the tickets' secret: %w", err)
	}
	timings := protocol.DefaultTimings()
	timings.RingMs = cfg.Call.RingTime.Milliseconds()
	n.hub, err = hub.New(hub.Config{
		ICEServers: ice.forSession, Timings: timings, MaxSessions: cfg.Limit.Sessions, MaxKept: cfg.Limit.QueuedMegabytes << 20, Log: log, Registerer: registry,
	})
	if err != nil {
		return nil, err
	}
	guests, err := account.NewGuests(account.Config{Logins: n.store.Logins, Sessions: n.hub, Secret: signedKey, SignedUntil: signedUntil, Log: log})
	if err != nil {
		return nil, err
	}
	n.calls, err = call.New(call.Config{
		Node: nodeName, Router: n.hub, Directory: account.NewDirectory(n.hub, n.store.Records, reachable, log), Recorder: n.store.Records, Relay: relays, Pusher: pusher, ICEServers: ice.forCall, RenewAfter: cfg.relayRenewal(), Timings: timings,
		RingsPerMinute: cfg.Call.RingsPerMinute, EarlyAnswers: cfg.Call.ConnectEarly && relays != nil, Secret: ticketSecret, Log: log, Registerer: registry,
	})
	if err != nil {
		return nil, err
	}
	living, err := n.store.Records.Living(ctx, nodeName)
	if err != nil {
		return nil, fmt.Errorf("read the calls of the last run: %w", err)
	}
	n.hub.Handle(keeper{n.calls, guests})
	n.calls.Restore(living)
	for _, r := range living {
		if n.feed != nil {
			n.feed.Know(string(r.Call))
		}
	}
	if n.admin, err = openAdmin(cfg.Admin.Listen, registry); err != nil {
		return nil, err
	}
	listener, err := listen("HTTP", cfg.Listen)
	if err != nil {
		return nil, err
	}
	n.edge, err = edge.New(edge.Config{
		Listener: listener, GetCertificate: getCertificate(n.certificate), StrictTransport: cfg.TLS.Mode == TLSFiles,
		Origins: origins(cfg.Origins), Proxies: cfg.Proxies, Place: cfg.Name, Access: cfg.Access,
		Guests: guests, Hub: n.hub, Recent: n.store.Records.Recent, Complete: n.store.Records.Complete, Failure: n.store.Failure, PushDevices: devices, Pushed: n.calls.Pushed,
		ConnectionsPerAddress: cfg.Limit.ConnectionsPerAddress, MaxConnections: maxConnections(openFiles(), cfg.Relay), Log: log, Registerer: registry,
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if cfg.SocketIO.Enabled {
		n.socketIO = socketio.New(socketio.Config{Admission: n.edge, Guests: guests, Hub: n.hub, Log: log})
		n.edge.HandleSocketIO(n.socketIO)
	}
	return n, nil
}

// keeper tells the guests what concerns them, too. The tokens of both parties of a ring outlive
// a restart, as the record of their call does: whoever only comes and goes leaves nothing in the
// database. The name of somebody whose last session has ended is free.
type keeper struct {
	*call.Switchboard
	guests *account.Guests
}

func (k keeper) HandleMessage(from origin.Origin, m protocol.Message) *protocol.Error {
	refused := k.Switchboard.HandleMessage(from, m)
	if ring, ok := m.(*protocol.Ring); ok && refused == nil {
		k.guests.Keep(from.User.ID)
		k.guests.Keep(ring.To)
	}
	return refused
}

func (k keeper) SessionEnded(from origin.Origin) {
	k.Switchboard.SessionEnded(from)
	k.guests.Departed(from.User.ID)
}

func origins(urls []*url.URL) []string {
	var all []string
	for _, u := range urls {
		all = append(all, u.String())
	}
	return all
}

// URL is the address to open in a browser on this machine.
func (n *Node) URL() string {
	scheme := "http"
	if n.edge.Secure() {
		scheme = "https"
	}
	host := "localhost"
	if ip := n.cfg.Listen.Addr(); !ip.IsUnspecified() && !ip.IsLoopback() {
		host = ip.String()
	}
	return scheme + "://" + net.JoinHostPort(host, n.port())
}

func (n *Node) port() string {
	if tcp, ok := n.edge.Addr().(*net.TCPAddr); ok {
		return strconv.Itoa(tcp.Port)
	}
	return ""
}

// RelayURLs are the STUN and TURN URLs of our relay, unless it is off, and of
// those that stand alone.
func (n *Node) RelayURLs() []string {
	if n.relay == nil {
		return texts(n.cfg.Relay.Others)
	}
	return append(n.relay.URLs(), texts(n.cfg.Relay.Others)...)
}

// Run serves until ctx is done or a part fails, then stops the parts one after
// the other: sessions are told, calls recorded, devices pushed, the relay and the database go last.
func (n *Node) Run(ctx context.Context) error {
	err := runParts(ctx, append(n.parts(), certificatePart(n.certificate, stopListeners, n.log)), n.log, func() {
		n.log.Info("ready", "url", n.URL(), "relay", n.RelayURLs(), "access", n.cfg.Access)
	})
	return errors.Join(err, n.store.Close())
}

// parts are those that New has made so far.
func (n *Node) parts() []part {
	all := []part{{name: "store", stops: stopStore, run: n.store.Run, discard: n.store.Close}}
	if n.relay != nil {
		all = append(all, relayPart(n.relay, n.cfg, n.log))
	}
	if n.relay != nil && len(n.others.urls) > 0 {
		all = append(all, part{name: "names of relays", stops: stopTelling, run: func(ctx context.Context) error {
			return n.others.run(ctx, func(addrs []netip.Addr) { n.relay.Relays(addrs...) })
		}})
	}
	if n.feed != nil {
		all = append(all, part{name: "feed", stops: stopTelling, run: n.feed.Run})
	}
	if n.outbox != nil { // it has been told by then which calls ring no more
		all = append(all, part{name: "outbox", stops: stopTelling, run: n.outbox.Run})
	}
	if n.admin != nil {
		all = append(all, part{name: "admin", stops: stopAdmin, run: n.admin.Run, discard: n.admin.listener.Close})
	}
	if n.edge == nil {
		return all
	}
	all = append(all,
		part{name: "hub", stops: stopSessions, run: n.hub.Run},
		part{name: "calls", stops: stopCalls, before: n.calls.Close})
	if n.socketIO != nil {
		all = append(all, part{name: "socketio", stops: stopListeners, run: n.socketIO.Run})
	}
	return append(all,
		part{name: "edge", stops: stopListeners, run: n.edge.Run},
		part{name: "readiness", stops: stopReady, before: n.edge.NotReady})
}
