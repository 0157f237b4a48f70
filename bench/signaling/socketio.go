package main

import (
	"bytes"
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// socketIO is the server of bench/peer.
func socketIO(folder string) contestant {
	return contestant{
		name: "Socket.IO",
		start: func(ctx context.Context) (*server, error) {
			return startServer(command(ctx, "node", "--expose-gc", filepath.Join(folder, "server.js")))
		},
		collect: func(ctx context.Context, s *server) error {
			if err := s.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
				return err
			}
			select {
			case <-s.says: // collected
				return nil
			case <-time.After(patience):
				return context.DeadlineExceeded
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		dialect: theirs{},
	}
}

// theirs is Engine.IO 4 over WebSocket with Socket.IO 5 in it, as much of it as a client must speak:
// 0 open, 2 ping, 3 pong, 40 connect, 42 event.
type theirs struct{}

func (theirs) path(name string) string {
	return "/socket.io/?EIO=4&transport=websocket&username=" + url.QueryEscape(name)
}

func (theirs) greet(c *client) error {
	if err := c.send([]byte("40")); err != nil {
		return err
	}
	return c.await("connect", func(frame string) bool { return strings.HasPrefix(frame, "40") })
}

// join is nothing to a server that does not know calls.
func (theirs) join(caller, callee *client) error {
	caller.target, callee.target = callee.name, caller.name
	return nil
}

func (theirs) candidate(c *client) []byte {
	return []byte(`42["candidate",{"username":"` + c.name + `","target":"` + c.target + `","candidate":` + stampedCandidate() + `}]`)
}

func (theirs) take(c *client, frame []byte) kind {
	switch {
	case len(frame) == 1 && frame[0] == '2':
		if c.send([]byte("3")) != nil {
			c.failures.Add(1)
		}
		return ping
	case bytes.HasPrefix(frame, []byte(`42["candidate"`)):
		return relayedCandidate
	}
	return other
}
