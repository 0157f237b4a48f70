package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	public "github.com/visavis/visavis/client"
	"github.com/visavis/visavis/protocol"
)

// visavis is our server with its defaults, but for ports that are free. Its database is there already: making it at the
// very first start leaves megabytes of garbage, in which connections would hide.
func visavis(ctx context.Context, binary, dir string) (contestant, error) {
	c := contestant{
		name: "visavis",
		start: func(ctx context.Context) (*server, error) {
			return withMetrics(startServer(command(ctx, binary, "serve",
				"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--relay-listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"))))
		},
		collect: provokeCollection,
		dialect: ours{},
	}
	first, err := c.start(ctx)
	if err != nil {
		return c, err
	}
	defer first.stop()
	return c, pause(ctx, 3*time.Second)
}

// provokeCollection reads /metrics until that garbage has brought about a collection. So the heap is as full as Go lets it
// get before it collects, which is how a server stands most of the time.
func provokeCollection(ctx context.Context, s *server) error {
	var first string
	for deadline := time.Now().Add(150 * time.Second); time.Now().Before(deadline); {
		figures, err := metrics(ctx, s)
		if err != nil {
			return err
		}
		switch last := metric(figures, "go_memstats_last_gc_time_seconds"); {
		case last == "":
			return errors.New("/metrics does not tell of collections")
		case first == "":
			first = last
		case last != first:
			return nil
		}
		// Slowly: a heap that grows faster than it can be collected says nothing.
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("no garbage collection in 150 s") // Go begins one every two minutes (runtime: forcegcperiod)
}

// withMetrics waits for the line that says where a server's metrics are.
func withMetrics(s *server, err error) (*server, error) {
	if err != nil {
		return nil, err
	}
	select {
	case line := <-s.says:
		if s.metrics, _, _ = strings.Cut(strings.TrimPrefix(line, "Metrics are at "), ","); s.metrics != line {
			return s, nil
		}
		err = fmt.Errorf("instead of its metrics the server tells %q", line)
	case <-time.After(patience):
		err = errors.New("the server tells no metrics")
	}
	s.stop()
	return nil, err
}

// scraper wants no gzip, whose buffers would count as the server's memory.
var scraper = http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}

func metrics(ctx context.Context, s *server) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics, nil)
	if err != nil {
		return "", err
	}
	resp, err := scraper.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// metric is the value of a metric without labels.
func metric(figures, name string) string {
	for line := range strings.Lines(figures) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// ours is PROTOCOL.md, as the public client speaks it.
type ours struct{}

func (ours) enter(ctx context.Context, c *client, addr string, dialer *net.Dialer) (err error) {
	c.messages = make(chan protocol.Message, 4)
	c.session, err = public.Dial(ctx, public.Config{
		URL: "http://" + addr, Hello: protocol.Hello{Name: c.name}, OneConnection: true,
		Handle: c.take, // in the reader: a hop must not wait for another goroutine
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			c.conn = conn
			return conn, err
		},
	})
	return err
}

// take takes a message of the server.
func (c *client) take(m protocol.Message) {
	switch m := m.(type) {
	case *protocol.Candidates:
		c.arrived([]byte(m.Candidates[0].Candidate))
		return
	case *protocol.Error:
		c.refusals.Add(1)
	}
	select {
	case c.messages <- m:
	default:
	}
}

func (ours) lost(c *client) bool { return c.session.Err() != nil }

func (ours) join(caller, callee *client) error {
	if err := caller.session.Send(&protocol.Ring{Ref: "1", To: callee.session.Welcome().User.ID, Video: true}); err != nil {
		return err
	}
	ring, err := await[*protocol.Ring](callee)
	if err != nil {
		return err
	}
	caller.call, callee.call = ring.Call, ring.Call
	for _, m := range []protocol.Message{&protocol.Ringing{Call: ring.Call}, &protocol.Accept{Call: ring.Call}} {
		if err := callee.session.Send(m); err != nil {
			return err
		}
	}
	for _, c := range []*client{caller, callee} {
		if _, err := await[*protocol.Accept](c); err != nil {
			return err
		}
		// Else the call ends as failed after 30 s.
		err := c.session.Send(&protocol.Media{Call: c.call, Connection: protocol.Connected, Audio: true, Video: true})
		if err != nil {
			return err
		}
	}
	return nil
}

func (ours) sendCandidate(c *client) error {
	return c.session.Send(&protocol.Candidates{Call: c.call, Candidates: []protocol.Candidate{stampedCandidate()}})
}
