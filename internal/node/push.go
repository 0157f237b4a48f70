package node

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/visavis/visavis/internal/outbox"
	"github.com/visavis/visavis/protocol"
)

// Push is how devices without an open page are told of calls: by the push services
// of their browsers' makers.
type Push struct {
	// Enabled says whether they are. Default: true.
	Enabled bool
	// Contact is whom the operators of push services may write to: mailto: or https:.
	// Default: none; Apple's takes nothing without.
	Contact string
	// Services are the push services that may be sent to: a host, *. and a domain, or
	// an origin. Default: those of Chrome, Firefox, Safari and Edge.
	Services []string
}

func (c *Config) checkPush() error {
	p := &c.Push
	if !p.Enabled {
		return nil
	}
	if err := outbox.CheckContact(p.Contact); err != nil {
		return &ConfigError{"push.contact", err.Error(), "--push-contact mailto:you@example.org"}
	}
	if len(p.Services) == 0 {
		return &ConfigError{"push.services", "there is no push service to send to", "--push-enabled=false turns push off"}
	}
	for _, entry := range p.Services {
		if err := outbox.CheckService(entry); err != nil {
			return &ConfigError{"push.services", err.Error(), "push.example.org, *.push.example.org or https://push.example.org:8443"}
		}
	}
	return nil
}

// openOutbox reads which devices can be pushed; the switchboard is there when
// something is sent to them.
func (n *Node) openOutbox(ctx context.Context, registry prometheus.Registerer) (*outbox.Outbox, error) {
	secret, err := n.store.Secret(ctx, "push")
	if err != nil {
		return nil, fmt.Errorf("read the secret of pushes: %w", err)
	}
	taken := func(id protocol.CallID) { n.calls.PushTaken(id) }
	return outbox.New(ctx, outbox.Config{
		Devices: n.store.Devices, HasCalled: n.store.Records.HasCalled, Secret: secret, Contact: n.cfg.Push.Contact, Services: n.cfg.Push.Services, Taken: taken,
		Log: n.log, Registerer: registry,
	})
}
