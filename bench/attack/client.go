package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// client is an attacker's WebSocket at /v1/signal. Unlike the public client it does only what it is told: it may read
// nothing and acknowledge nothing.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	seq  int
}

// patience bounds each step of a client.
const patience = 15 * time.Second

// message is what attacks read of the server's messages.
type message struct {
	Type, Call, Code string
	User             struct{ ID string }
}

// dial connects from an address of the loopback network.
func dial(addr, from string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// enter connects and says hello by a name. The message is what the server answers.
func enter(addr, from, name string) (*client, message, error) {
	conn, err := dial(addr, from)
	if err != nil {
		return nil, message{}, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 1<<10)}
	m, err := c.enter(name)
	if err != nil {
		_ = conn.Close()
	}
	return c, m, err
}

func (c *client) enter(name string) (m message, err error) {
	if _, err := io.WriteString(c.conn, "GET /v1/signal HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"); err != nil {
		return m, err
	}
	resp, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // a WebSocket's answer has none
	if err != nil {
		return m, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return m, fmt.Errorf("status %d", resp.StatusCode)
	}
	if err := c.write(fmt.Sprintf(`{"type":"hello","version":1,"name":%q}`, name)); err != nil {
		return m, err
	}
	return c.read()
}

// say sends a message with the next number.
func (c *client) say(fields string) error {
	c.seq++
	return c.write(fmt.Sprintf(`{"seq":%d,%s}`, c.seq, fields))
}

// write sends one text frame (RFC 6455 §5.2), masked with zeros.
func (c *client) write(text string) error {
	frame := []byte{0x81}
	switch n := len(text); {
	case n > 1<<16-1:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	case n > 125:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = append(frame, 0x80|byte(n))
	}
	_, err := c.conn.Write(append(append(frame, 0, 0, 0, 0), text...))
	return err
}

// read is the next message of the server.
func (c *client) read() (m message, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return m, err
	}
	length := uint64(head[1] & 127)
	switch length {
	case 126:
		var long [2]byte
		_, err = io.ReadFull(c.in, long[:])
		length = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		var long [8]byte
		_, err = io.ReadFull(c.in, long[:])
		length = binary.BigEndian.Uint64(long[:])
	}
	if err != nil {
		return m, err
	}
	if head[0]&15 == 8 {
		return m, io.EOF
	}
	return m, json.NewDecoder(io.LimitReader(c.in, int64(length))).Decode(&m) //nolint:gosec // the server's are short
}

// await is the next message of a type.
func (c *client) await(kind string) (m message, err error) {
	for m.Type != kind && err == nil {
		m, err = c.read()
	}
	return m, err
}

// swallow reads and acknowledges nothing until the connection ends.
func (c *client) swallow() {
	_ = c.conn.SetDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, c.in)
}

// offer is a description as long as the server takes and as dear to write as there is: no letter of it is plain.
func offer(call string) string {
	sdp := `v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n` +
		`m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n` + strings.Repeat(`a=x:ä`+strings.Repeat("<", 500)+`\r\n`, 60)
	return fmt.Sprintf(`"type":"offer","call":%q,"description":{"type":"offer","sdp":"%s"}`, call, sdp)
}
