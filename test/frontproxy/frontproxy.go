// Package frontproxy runs, in tests, the programs that docs/install.md tells how to put in front of a server, with the
// configurations that it shows.
package frontproxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// installGuide is seen from a package two folders down.
const installGuide = "../../docs/install.md"

// Documented is the first code block of docs/install.md after a line, with every old part, each of which must be in it,
// in its new form: old, new, old, new.
func Documented(t *testing.T, after string, pairs ...string) string {
	t.Helper()
	text, err := os.ReadFile(installGuide)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+after+"\n")
	_, block, _ := strings.Cut(rest, "```")
	_, block, _ = strings.Cut(block, "\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatalf("%s has no block after %q", installGuide, after)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(block, pairs[i]) {
			t.Fatalf("%q is not in\n%s", pairs[i], block)
		}
		block = strings.ReplaceAll(block, pairs[i], pairs[i+1])
	}
	return block
}

// FreeAddress is an address of this machine on which nobody listens.
func FreeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// Start runs a program until the test ends, on files that it makes in folder. Where the program is not installed the test
// is skipped, but fails in CI.
func Start(t *testing.T, command, folder string, files map[string][]byte, arguments ...string) {
	t.Helper()
	program, err := exec.LookPath(command)
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + command)
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	running := exec.CommandContext(ctx, program, arguments...)
	running.Env = append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder)
	running.Stdout, running.Stderr = t.Output(), t.Output()
	running.WaitDelay = time.Second
	if err := running.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = running.Wait() })
}

// Through connects a visitor, which is an address of this machine, to a proxy by TLS, as soon as that listens.
func Through(t *testing.T, proxy netip.AddrPort, visitor, serverName string) *tls.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(visitor)}}
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
		conn, err := dialer.Dial("tcp", proxy.String())
		if err == nil {
			secure := tls.Client(conn, &tls.Config{ServerName: serverName, InsecureSkipVerify: true}) //nolint:gosec // a certificate of its own
			_ = secure.SetDeadline(time.Now().Add(10 * time.Second))
			if err = secure.Handshake(); err == nil {
				t.Cleanup(func() { _ = secure.Close() })
				return secure
			}
			_ = conn.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
