package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/protocol"
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

func (theirs) enter(_ context.Context, c *client, addr string, dialer *net.Dialer) error {
	c.connected = make(chan struct{})
	//nolint:bodyclose // a WebSocket's answer has none
	socket, _, err := gws.NewClient(theirEvents{c: c}, &gws.ClientOption{
		Addr:           "ws://" + addr + "/socket.io/?EIO=4&transport=websocket&username=" + url.QueryEscape(c.name),
		ReadBufferSize: 1 << 10,
		NewDialer:      func() (gws.Dialer, error) { return dialer, nil },
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.socket, c.conn = socket, socket.NetConn()
	go socket.ReadLoop() // until leave
	if err := socket.WriteString("40"); err != nil {
		return err
	}
	select {
	case <-c.connected:
		return nil
	case <-time.After(patience):
		return errors.New("it waits for connect in vain")
	}
}

// join is nothing to a server that does not know calls.
func (theirs) join(caller, callee *client) error {
	caller.target, callee.target = callee.name, caller.name
	return nil
}

func (theirs) sendCandidate(c *client) error {
	return c.socket.WriteString(`42["candidate",{"username":"` + c.name + `","target":"` + c.target +
		`","candidate":` + string(protocol.JSON(stampedCandidate())) + `}]`)
}

func (theirs) lost(c *client) bool { return c.closed.Load() }

// theirEvents takes what the server sends to a client.
type theirEvents struct {
	gws.BuiltinEventHandler
	c *client
}

func (e theirEvents) OnMessage(socket *gws.Conn, message *gws.Message) {
	switch frame := message.Bytes(); {
	case len(frame) == 1 && frame[0] == '2':
		_ = socket.WriteString("3")
	case bytes.HasPrefix(frame, []byte(`42["candidate"`)):
		e.c.arrived(frame)
	case bytes.HasPrefix(frame, []byte("40")):
		close(e.c.connected)
	}
	_ = message.Close()
}

func (e theirEvents) OnClose(*gws.Conn, error) { e.c.closed.Store(true) }
