package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contestant is a kind of server and how its clients speak.
type contestant struct {
	name  string
	start func(context.Context) (*server, error)
	// collect makes the server collect its garbage, or waits until it has.
	collect func(context.Context, *server) error
	dialect
}

// server is one running process that is measured.
type server struct {
	cmd     *exec.Cmd
	addr    string      // host:port
	metrics string      // URL; ours only
	says    chan string // its lines after the address; the oldest are dropped
}

// patience bounds the wait for a server or a client that should answer at once.
const patience = 20 * time.Second

// command is a command that is told to end with its context, and killed when it does not.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	return cmd
}

// startServer runs a server until its context ends, and waits for the line with its http address.
func startServer(cmd *exec.Cmd) (*server, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, says: make(chan string, 8)}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, addr, ok := strings.Cut(lines.Text(), "http://"); ok {
				address <- addr
				break
			}
		}
		for lines.Scan() {
			select {
			case s.says <- lines.Text():
			default:
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	select {
	case addr, ok := <-address:
		if ok {
			s.addr = addr
			return s, nil
		}
		return nil, errors.Join(fmt.Errorf("%s ended: %s", cmd.Path, log.String()), cmd.Wait())
	case <-time.After(patience):
		s.stop()
		return nil, fmt.Errorf("%s tells no address", cmd.Path)
	}
}

// stop ends the process.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	_ = s.cmd.Wait() // how it ended says nothing of what was measured
}

// memory is the bytes that the process has written and shares with nobody: heap, stacks and buffers, but not the pages of
// its program, which belong to no connection.
func (s *server) memory() (int64, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(rollup)) {
		if value, ok := strings.CutPrefix(line, "Private_Dirty:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no Private_Dirty in smaps_rollup")
}

// cpu is the time that the process has run, in user and kernel mode, all threads.
func (s *server) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field may have blanks; the rest begins after its bracket, with the third (proc(5)).
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is not as proc(5) says")
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 wherever Go and Node run
}

// times are ticks of all processors of the machine.
type times struct{ all, stolen int64 }

// machineTimes are since it started: the first line of /proc/stat (proc(5)).
func machineTimes() times {
	stat, _ := os.ReadFile("/proc/stat")
	var t times
	line, _, _ := strings.Cut(string(stat), "\n")
	for i, field := range strings.Fields(line) {
		ticks, _ := strconv.ParseInt(field, 10, 64)
		switch {
		case i == 8:
			t.stolen = ticks
			fallthrough
		case 0 < i && i < 8: // the rest is in user and nice already
			t.all += ticks
		}
	}
	return t
}

func (t times) since(before times) times { return times{t.all - before.all, t.stolen - before.stolen} }

func (t times) stolenShare() float64 { return float64(t.stolen) / float64(max(1, t.all)) }
