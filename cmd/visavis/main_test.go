package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"rsc.io/qr"

	"github.com/visavis/visavis/internal/node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"visavis": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitfile": waitFile},
	})
}

// waitFile waits until a file is there: waitfile NAME.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("%s is not there after 20 s", args[0])
		}
	}
}

// served runs the server as the command does, and is the address that it
// prints first.
func served(t *testing.T, args ...string) (url string, stop func() error) {
	t.Helper()
	read, write := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	args = append([]string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--relay-listen", "127.0.0.1:0"}, args...)
	go func() {
		err := run(ctx, args, write, io.Discard)
		write.Close()
		ended <- err
	}()
	stop = func() error { cancel(); return <-ended }
	stdout := bufio.NewReader(read)
	line, err := stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("no address: %v", stop())
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	url, ok := strings.CutPrefix(line, "Visavis is at ")
	if !ok {
		t.Fatalf("the first line is %q", line)
	}
	return strings.TrimSpace(url), stop
}

func healthy(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET /healthz: %s", resp.Status)
	}
}

func TestServe(t *testing.T) {
	url, stop := served(t, "--listen", "localhost:0")
	if !strings.HasPrefix(url, "http://localhost:") || strings.HasSuffix(url, ":0") {
		t.Errorf("the address to open is %s", url)
	}
	healthy(t, url)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServeSelfSigned(t *testing.T) {
	url, stop := served(t, "--listen", "localhost:0", "--tls", "self-signed")
	if !strings.HasPrefix(url, "https://localhost:") {
		t.Errorf("the address to open is %s", url)
	}
	healthy(t, url)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestInvitation(t *testing.T) {
	cfg := node.DefaultConfig()
	cfg.Listen = node.MustParseAddress("192.168.1.20:8443")
	var out strings.Builder
	if err := invite(&out, "https://localhost:8443", cfg); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"https://192.168.1.20:8443\n", "▄", "The browser will warn", "no camera"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colors where there is no terminal")
	}
}

func TestQRCodeHasEveryModule(t *testing.T) {
	const text = "https://192.168.1.20:8443"
	var out strings.Builder
	if err := drawQR(&out, text, true); err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	const on, off = "\x1b[38;5;231;48;5;16m", "\x1b[0m"
	rows := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if want := (code.Size + 2*quietZone + 1) / 2; len(rows) != want {
		t.Fatalf("%d rows, want %d", len(rows), want)
	}
	for i, row := range rows {
		if !strings.HasPrefix(row, on) || !strings.HasSuffix(row, off) {
			t.Fatalf("row %d has not its own colors: %q", i, row)
		}
		cells := []rune(strings.TrimSuffix(strings.TrimPrefix(row, on), off))
		if len(cells) != code.Size+2*quietZone {
			t.Fatalf("row %d has %d modules, want %d", i, len(cells), code.Size+2*quietZone)
		}
		for j, cell := range cells {
			x, y := j-quietZone, 2*i-quietZone
			light := [2]bool{cell == '█' || cell == '▀', cell == '█' || cell == '▄'}
			if want := [2]bool{!code.Black(x, y), !code.Black(x, y+1)}; light != want {
				t.Fatalf("modules (%d,%d) and below are light: %v, want %v", x, y, light, want)
			}
		}
	}
}

func TestHintsForTheSystemsErrors(t *testing.T) {
	url, stop := served(t, "--listen", "localhost:0")
	var stderr strings.Builder
	err := run(t.Context(), []string{
		"serve", "--listen", strings.TrimPrefix(url, "http://"),
		"--relay-listen", "127.0.0.1:0", "--data", t.TempDir(),
	}, io.Discard, io.Discard)
	if status := report(err, &stderr); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if !strings.Contains(stderr.String(), "hint: another program has that port") {
		t.Errorf("got:\n%s", &stderr)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
	}{
		{[]string{"version"}, 0},
		{[]string{"--help"}, 0},
		{[]string{"check"}, 0},
		{[]string{"check", "--listen", "here"}, 1},
		{[]string{"check", "--lisen", "here"}, 2},
		{[]string{"dance"}, 2},
		{nil, 2},
	} {
		if got := report(run(t.Context(), c.args, io.Discard, io.Discard), io.Discard); got != c.status {
			t.Errorf("visavis %v: status %d, want %d", c.args, got, c.status)
		}
	}
}

func readRepository(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
