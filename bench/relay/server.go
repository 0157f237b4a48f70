package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/turnload"
)

// secret is shared by generator and servers.
var secret = node.NewSecret()

// patience bounds the wait for a server to begin or to end.
const patience = 20 * time.Second

// A contestant is a kind of server.
type contestant struct {
	name        string
	command     func(ctx context.Context, dir string, port int) (*exec.Cmd, error)
	credentials func(leg int) (username, password string)
}

// coturn is Debian's, with what a service has that hands out credentials, on loopback.
func coturn(binary string) contestant {
	return contestant{
		name: "coturn",
		command: func(ctx context.Context, dir string, port int) (*exec.Cmd, error) {
			config := filepath.Join(dir, "turnserver.conf")
			err := os.WriteFile(config, fmt.Appendf(nil, `listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port=%d
min-port=49152
max-port=65535
realm=bench
use-auth-secret
static-auth-secret=%s
allow-loopback-peers
no-multicast-peers
no-tls
no-dtls
no-cli
fingerprint
userdb=%s
pidfile=%s
log-file=/dev/null
no-stdout-log
simple-log
`, port, secret, filepath.Join(dir, "turndb"), filepath.Join(dir, "turnserver.pid")), 0o600)
			return exec.CommandContext(ctx, binary, "-c", config), err
		},
		credentials: func(leg int) (string, string) {
			return turnload.RESTCredentials(secret, fmt.Sprintf("load-%d", leg), time.Now().Add(time.Hour))
		},
	}
}

// visavis is ours, without the limits of what one user has in one call.
func visavis(binary string) contestant {
	key := node.RelayKey(secret)
	return contestant{
		name: "visavis",
		command: func(ctx context.Context, _ string, port int) (*exec.Cmd, error) {
			cmd := exec.CommandContext(ctx, binary, "relay", "--listen", "127.0.0.1:0",
				"--relay-listen", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
				"--relay-scoped=false", "--relay-min-port", "49152", "--relay-max-port", "65535",
				"--relay-bit-rate", "2000000000", "--relay-packet-rate", "10000000",
				"--relay-source-bit-rate", "100000000000", "--relay-total-bit-rate", "100000000000", "--relay-source-allocations", "20000", "--relay-max-allocations", "20000")
			cmd.Env = append(os.Environ(), "VISAVIS_RELAY_SECRET="+secret)
			return cmd, nil
		},
		credentials: func(leg int) (string, string) {
			c := relay.Issue(key, fmt.Sprintf("load-%d", leg), "", "", time.Now(), time.Hour)
			return c.Username, c.Password
		},
	}
}

// A server is one running process.
type server struct {
	contestant
	cmd   *exec.Cmd
	at    netip.AddrPort
	ended chan struct{} // closed when the process has ended
}

// launch starts a server and waits until it serves.
func (c contestant) launch(ctx context.Context, dir string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd, err := c.command(ctx, dir, port)
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = nil, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{
		contestant: c, cmd: cmd, ended: make(chan struct{}),
		at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)),
	}
	go func() {
		_ = cmd.Wait() // how it ended says nothing of what was measured
		close(s.ended)
	}()
	probe, _ := turnload.Preset("idle")
	probe.Legs = 1
	for deadline := time.Now().Add(patience); ; {
		if _, err = s.drive(ctx, probe, time.Millisecond, false); err == nil {
			return s, nil
		}
		select {
		case <-s.ended:
			return nil, fmt.Errorf("it ended: %s\n%s", cmd.ProcessState, &said)
		case <-time.After(50 * time.Millisecond):
		}
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline) {
			s.stop()
			return nil, err
		}
	}
}

// drive puts a load on the server.
func (s *server) drive(ctx context.Context, l turnload.Load, measure time.Duration, gso bool) (turnload.Result, error) {
	return turnload.Run(ctx, turnload.Config{
		Load: l, Server: s.at, Credentials: s.credentials,
		WarmUp: min(time.Second, measure), Measure: measure, PID: s.cmd.Process.Pid, GSO: gso && l.BurstMax > 1,
	})
}

// stop ends the process.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// freePort is one of loopback that nothing uses, on UDP and TCP both. It is below the relayed ones and those that the
// system hands out.
func freePort() (int, error) {
	for port := 13478; port < 20000; port++ {
		at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		tcp, err := net.Listen("tcp", at)
		_ = udp.Close()
		if err != nil {
			continue
		}
		_ = tcp.Close()
		return port, nil
	}
	return 0, errors.New("no port is free")
}
