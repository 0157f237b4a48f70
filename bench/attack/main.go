// Attack does to a server what strangers did to it, and tells what that costs: memory, CPU time, and how long an honest
// newcomer waits meanwhile. It starts the servers itself, on loopback, and stops by itself.
//
//	go run ./bench/attack -visavis bin/visavis [-before an/earlier/visavis]
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// attack is one way to use a server up. It returns when it has done its worst, with what the attackers saw.
type attack struct {
	name    string
	from    string // where the newcomer comes from
	run     func(addr string) string
	pending time.Duration // how long the newcomer goes on coming
}

var hellos = flag.Int("hellos", 100_000, "how many clients say hello and leave, within a minute")

func main() {
	now := flag.String("visavis", "bin/visavis", "`binary` to attack")
	before := flag.String("before", "", "an earlier `binary` to attack beside it")
	only := flag.String("only", "", "only the attacks whose names have this `word`")
	flag.Parse()
	binaries := []string{*now}
	if *before != "" {
		binaries = []string{*before, *now}
	}
	fmt.Println("| attack | server | memory before | at most | CPU | newcomers | wait, median | longest | seen by attackers |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, a := range attacks() {
		if !strings.Contains(a.name, *only) {
			continue
		}
		for _, binary := range binaries {
			line, err := a.measure(binary)
			if err != nil {
				fmt.Fprintln(os.Stderr, "attack:", err)
				os.Exit(1)
			}
			fmt.Printf("| %s | %s | %s |\n", a.name, binary, line)
		}
	}
}

func attacks() []attack {
	return []attack{
		{"say hello and leave, from 64 addresses", "127.0.0.1", helloAndDrop, 5 * time.Second},
		{"3,000 slow bodies from one address", "127.0.0.1", slowBodies, time.Second},
		{"20 sessions that acknowledge nothing", "127.0.0.1", silentSessions, time.Second},
		{"64 handshakes from the newcomer's address", "127.0.0.1", handshakes, 15 * time.Second},
	}
}

// helloAndDrop lets clients come in and go, as many as it can in a minute.
func helloAndDrop(addr string) string {
	var next, came, refused atomic.Int64
	deadline := time.Now().Add(time.Minute)
	var workers sync.WaitGroup
	for w := range 32 {
		workers.Go(func() {
			for time.Now().Before(deadline) {
				n := next.Add(1)
				if n > int64(*hellos) {
					return
				}
				c, m, err := enter(addr, fmt.Sprintf("127.0.1.%d", 1+n%64), fmt.Sprintf("stranger %d of %d", n, w))
				if err == nil {
					_ = c.conn.Close()
				}
				if err == nil && m.Type == "welcome" {
					came.Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return fmt.Sprintf("%d came in, %d refused", came.Load(), refused.Load())
}

// slowBodies opens requests whose body never comes, and waits for 40 s.
func slowBodies(addr string) string {
	var all []net.Conn
	for range 3000 {
		conn, err := dial(addr, "127.0.1.1")
		if err != nil {
			continue
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprint(conn, "POST /v1/hangup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
		all = append(all, conn)
	}
	<-time.After(40 * time.Second)
	open := 0
	for _, conn := range all {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			open++
		}
	}
	return fmt.Sprintf("%d of %d open after 40 s", open, len(all))
}

// silentSessions puts 20 pairs in calls; one of each sends long offers, which the other one reads and does not acknowledge.
func silentSessions(addr string) string {
	var pairs sync.WaitGroup
	var sent atomic.Int64
	for i := range 20 {
		pairs.Go(func() {
			from := fmt.Sprintf("127.0.1.%d", 1+i)
			callee, m, err := enter(addr, from, fmt.Sprintf("callee %d", i))
			if err != nil {
				return
			}
			defer func() { _ = callee.conn.Close() }()
			caller, _, err := enter(addr, from, fmt.Sprintf("caller %d", i))
			if err != nil {
				return
			}
			defer func() { _ = caller.conn.Close() }()
			_ = caller.say(fmt.Sprintf(`"type":"ring","ref":"1","to":%q,"video":true`, m.User.ID))
			ring, err := callee.await("ring")
			if err != nil {
				return
			}
			_ = callee.say(fmt.Sprintf(`"type":"accept","call":%q`, ring.Call))
			if _, err := callee.await("accept"); err != nil {
				return
			}
			go callee.swallow()
			go caller.swallow()
			for range 300 {
				if caller.say(offer(ring.Call)) != nil {
					return
				}
				sent.Add(1)
				<-time.After(55 * time.Millisecond)
			}
		})
	}
	pairs.Wait()
	return fmt.Sprintf("%d offers sent", sent.Load())
}

// handshakes asks for 64 Socket.IO connections, as a page of another site can with images.
func handshakes(addr string) string {
	ok := 0
	for range 64 {
		r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/socket.io/?EIO=4&transport=polling", nil) //nolint:noctx // bounded by the server
		if err != nil {
			continue
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			ok++
		}
	}
	return fmt.Sprintf("%d answered", ok)
}

// measure starts a server, attacks it and tells what that did.
func (a attack) measure(binary string) (string, error) {
	s, err := start(binary)
	if err != nil {
		return "", err
	}
	defer s.stop()
	<-time.After(time.Second)
	memory, cpu := s.memory(), s.cpu()
	stop, told := make(chan struct{}), make(chan waits, 1)
	go func() { told <- s.newcomers(a.from, stop) }()
	most := make(chan int64, 1)
	go func() { most <- s.watch(stop) }()
	seen := a.run(s.addr)
	<-time.After(a.pending)
	close(stop)
	w := <-told
	return fmt.Sprintf("%.0f MB | %.0f MB | %.1f s | %d in, %d not | %.2f s | %.2f s | %s",
		float64(memory)/1e6, float64(<-most)/1e6, (s.cpu() - cpu).Seconds(), w.in, w.out, w.median().Seconds(), w.longest().Seconds(), seen), nil
}

// server is a running process.
type server struct {
	cmd  *exec.Cmd
	addr string
	data string
}

func start(binary string) (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	data, err := os.MkdirTemp("", "attack")
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, data: data}
	args := []string{"serve", "--listen", addr, "--access", "open", "--data", data, "--relay-enabled=false", "--push-enabled=false", "--log-level", "error"}
	if help, _ := exec.Command(binary, "serve", "--help").Output(); strings.Contains(string(help), "--admin-listen") { //nolint:gosec,noctx // the operator's own
		args = append(args, "--admin-listen", "127.0.0.1:0")
	}
	s.cmd = exec.Command(binary, args...) //nolint:gosec,noctx // the operator's own; stopped by stop
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; <-time.After(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr) //nolint:noctx // loopback
		if err == nil {
			_ = conn.Close()
			return s, nil
		}
		if time.Now().After(deadline) {
			s.stop()
			return nil, fmt.Errorf("%s does not listen: %w", binary, err)
		}
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	kill.Stop()
	_ = os.RemoveAll(s.data)
}

// memory is the process's private memory in bytes, as the kernel tells it.
func (s *server) memory() int64 {
	rollup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))
	for line := range strings.Lines(string(rollup)) {
		if value, ok := strings.CutPrefix(line, "Private_Dirty:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// cpu is the time that the process has run (proc(5)).
func (s *server) cpu() time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100)
}

// watch is the most memory that the process had until stop.
func (s *server) watch(stop <-chan struct{}) (most int64) {
	for {
		most = max(most, s.memory())
		select {
		case <-stop:
			return most
		case <-time.After(250 * time.Millisecond):
		}
	}
}
