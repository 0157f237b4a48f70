package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
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

// ours is PROTOCOL.md.
type ours struct{}

func (ours) path(string) string { return "/v1/signal" }

func (ours) greet(c *client) error {
	if err := c.send(fmt.Appendf(nil, `{"type":"hello","version":1,"name":%q}`, c.name)); err != nil {
		return err
	}
	return c.await("welcome", func(frame string) bool {
		var m struct {
			Type string
			User struct{ ID string }
		}
		_ = json.Unmarshal([]byte(frame), &m)
		c.id = m.User.ID
		return m.Type == "welcome"
	})
}

// tell sends a message with the next number.
func (ours) tell(c *client, format string, args ...any) error {
	return c.send(number(c, fmt.Sprintf(format, args...)))
}

// number is a frame with the client's next number.
func number(c *client, frame string) []byte {
	c.seq++
	numbered := append(make([]byte, 0, len(frame)+16), `{"seq":`...)
	numbered = strconv.AppendInt(numbered, int64(c.seq), 10)
	numbered = append(numbered, ',')
	return append(numbered, frame[1:]...)
}

func (o ours) join(caller, callee *client) error {
	if err := o.tell(caller, `{"type":"ring","ref":"1","to":%q,"video":true}`, callee.id); err != nil {
		return err
	}
	awaitCall := func(c *client, kind string) error {
		return c.await(kind, func(frame string) bool {
			var m struct{ Type, Call string }
			_ = json.Unmarshal([]byte(frame), &m)
			c.call = m.Call
			return m.Type == kind
		})
	}
	if err := awaitCall(callee, "ring"); err != nil {
		return err
	}
	if err := o.tell(callee, `{"type":"ringing","call":%q}`, callee.call); err != nil {
		return err
	}
	if err := o.tell(callee, `{"type":"accept","call":%q}`, callee.call); err != nil {
		return err
	}
	for _, c := range []*client{caller, callee} {
		if err := awaitCall(c, "accept"); err != nil {
			return err
		}
		// Else the call ends as failed after 30 s.
		err := o.tell(c, `{"type":"media","call":%q,"connection":"connected","audio":true,"video":true}`, c.call)
		if err != nil {
			return err
		}
	}
	return nil
}

func (ours) candidate(c *client) []byte {
	return number(c, `{"type":"candidate","call":"`+c.call+`","candidates":[`+stampedCandidate()+`]}`)
}

func (ours) take(c *client, frame []byte) kind {
	if rest, ok := bytes.CutPrefix(frame, []byte(`{"seq":`)); ok {
		digits, _, _ := bytes.Cut(rest, []byte(","))
		c.received, _ = strconv.Atoi(string(digits))
	}
	switch {
	case bytes.HasPrefix(frame, []byte(`{"type":"ping"`)):
		if c.send(fmt.Appendf(nil, `{"type":"pong","ack":%d}`, c.received)) != nil {
			c.failures.Add(1)
		}
		return ping
	case bytes.Contains(frame, []byte(`"type":"candidate"`)):
		return relayedCandidate
	case bytes.Contains(frame, []byte(`"type":"error"`)):
		c.failures.Add(1)
	}
	return other
}
