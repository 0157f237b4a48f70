package nodetest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"github.com/visavis/visavis/client"
	"github.com/visavis/visavis/protocol"
)

// Client is one connection of a client, driven by a test, which fails when the client does. The client does not
// come back by itself.
type Client struct {
	t       testing.TB
	client  *client.Client
	conn    net.Conn
	Welcome *protocol.Welcome
}

// Enter connects a guest and waits for the welcome.
func Enter(t testing.TB, url, name string) *Client {
	t.Helper()
	return Hello(t, url, &protocol.Hello{Name: name, Presence: true})
}

// Hello connects with a hello of the test's own and waits for the welcome.
func Hello(t testing.TB, url string, hello *protocol.Hello) *Client {
	t.Helper()
	c := &Client{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	c.client, err = client.Dial(ctx, client.Config{
		URL: url, Hello: *hello, OneConnection: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			c.conn = conn
			return conn, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Welcome = c.client.Welcome()
	t.Cleanup(func() {
		c.Cut()
		_ = c.client.Close()
	})
	return c
}

// Send sends a message with the next number.
func (c *Client) Send(m protocol.Message) {
	c.t.Helper()
	if err := c.client.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

// The opcodes of [Client.SendFrame] (RFC 6455, section 5.2).
const (
	Text   = 1
	Binary = 2
)

// SendFrame sends any frame to a server that may close the connection for it.
func (c *Client) SendFrame(opcode byte, payload []byte) {
	frame := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n > 1<<16-1:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	case n > 125:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n)) //nolint:gosec // not over 1<<16-1
	default:
		frame = append(frame, 0x80|byte(n)) //nolint:gosec // not over 125
	}
	_, _ = c.conn.Write(append(append(frame, 0, 0, 0, 0), payload...)) // masked with zeros
}

// Cut ends the connection without a close frame.
func (c *Client) Cut() { _ = c.conn.Close() }

// Leave closes the connection for good.
func (c *Client) Leave() { _ = c.client.Close() }

// AwaitPresence waits until a client is told of a user's presence. What else came before is
// dropped.
func AwaitPresence(c *Client, user protocol.UserID, presence protocol.Presence) {
	c.t.Helper()
	for {
		for _, u := range Await[*protocol.PresenceChange](c).Users {
			if u.ID == user && u.Presence == presence {
				return
			}
		}
	}
}

// Await is the next message of a type; those of others that came before are dropped.
func Await[M protocol.Message](c *Client) M {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := client.Await[M](ctx, c.client)
	if err != nil {
		c.t.Fatalf("no %T came: %v", m, err)
	}
	return m
}

// Closed waits for the connection's end and is its code; [client.CloseCut] without a close frame.
func (c *Client) Closed() protocol.CloseCode {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, err := c.client.Receive(ctx)
		if closed := (*client.CloseError)(nil); errors.As(err, &closed) {
			return closed.Code
		}
		if err != nil {
			c.t.Fatalf("the connection stays open: %v", err)
		}
	}
}
