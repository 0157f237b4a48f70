// Soak keeps a relay busy for a long time, at a low rate, and tells what that does to its memory.
//
//	soak -visavis bin/visavis -for 1h
//
// It starts "visavis relay" on ports of its own. Calls come and go there the whole time: two parties each, on UDP or
// TCP, who allocate, get permissions and channels, send to each other and to a socket that answers, and leave: by a
// Refresh to 0, by closing their connection, or without a word, so that their allocations have to expire. Some calls
// last long enough to refresh all of that. Every so often a line tells the relay's memory, goroutines, files and
// allocations. It fails if these still grow when everything has been in balance for long, or if calls go wrong.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/turn/v5"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay"
)

func main() {
	program := flag.String("visavis", "bin/visavis", "the program")
	length := flag.Duration("for", time.Hour, "how long")
	every := flag.Duration("every", 30*time.Second, "time between two lines")
	calls := flag.Int("calls", 8, "calls at a time, each of which sends 40 packets/s")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *program, *length, *every, *calls); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

var secret = node.NewSecret()

func run(ctx context.Context, program string, length, every time.Duration, calls int) error {
	r, err := start(ctx, program)
	if err != nil {
		return err
	}
	defer r.stop()
	answering, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer answering.Close()
	go answer(answering)

	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var callers sync.WaitGroup
	p := place{relay: r.at, answering: answering.LocalAddr()}
	for i := range calls {
		// One of four has long calls.
		callers.Go(func() { p.live(ctx, i, i%4 == 0) })
	}
	samples, err := r.watch(ctx, &p, every)
	cancel()
	callers.Wait()
	if err != nil {
		return err
	}
	return judge(samples, &p)
}

// answer sends back what comes, until conn is closed.
func answer(conn net.PacketConn) {
	b := make([]byte, 2000)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(b[:n], from)
	}
}

// A process is the relay.
type process struct {
	cmd     *exec.Cmd
	at      string // host and port of TURN
	metrics string // URL
}

func start(ctx context.Context, program string) (*process, error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	listen := free.Addr().String()
	_ = free.Close()
	r := &process{cmd: exec.Command(program, "relay", "--listen", "127.0.0.1:0", "--admin-listen", listen, "--relay-listen", "127.0.0.1:0", "--relay-scoped=false"), metrics: "http://" + listen + "/metrics"}
	r.cmd.Env = append(os.Environ(), "VISAVIS_RELAY_SECRET="+secret)
	r.cmd.Stderr = os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_, rest, found := strings.Cut(line, "stun:")
	if err != nil || !found {
		r.stop()
		return nil, fmt.Errorf("the relay says %q, %w", line, errors.Join(err, ctx.Err()))
	}
	r.at, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	return r, nil
}

func (r *process) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.cmd.Wait()
}

// A place is where calls happen.
type place struct {
	relay     string
	answering net.Addr

	calls, failed, sent, received atomic.Int64
	last                          atomic.Pointer[string] // error
}

// live has one call after the other.
func (p *place) live(ctx context.Context, lane int, long bool) {
	for i := 0; ctx.Err() == nil; i++ {
		life := 2*time.Second + rand.N(18*time.Second)
		if long {
			life = 12*time.Minute + rand.N(3*time.Minute)
		}
		// Ten times the same call: a client that gets a new network takes new allocations.
		id := fmt.Sprintf("soak-%d-%d", lane, i/10)
		if err := p.call(ctx, id, life); err != nil {
			p.failed.Add(1)
			text := err.Error()
			p.last.Store(&text)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		p.calls.Add(1)
	}
}

// call is two parties that send ten times a second to each other and to the socket that answers.
func (p *place) call(ctx context.Context, id string, life time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	ann, err := p.enter(id, "ann")
	if err != nil {
		return err
	}
	defer ann.leave()
	bob, err := p.enter(id, "bob")
	if err != nil {
		return err
	}
	defer bob.leave()

	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	payload := make([]byte, 1200)
	for {
		for _, way := range []struct {
			from *party
			to   net.Addr
		}{{ann, bob.LocalAddr()}, {bob, ann.LocalAddr()}, {ann, p.answering}, {bob, p.answering}} {
			if _, err := way.from.WriteTo(payload[:100+rand.IntN(1100)], way.to); err != nil {
				return err
			}
			p.sent.Add(1)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A party is an allocation.
type party struct {
	net.PacketConn
	client *turn.Client
	socket net.PacketConn
	silent bool // leaves without a word
	read   sync.WaitGroup
}

func (p *place) enter(call, name string) (*party, error) {
	// Each comes from an address of its own: nobody gets the port of one who left without a word.
	from := fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	c := &party{silent: rand.IntN(4) == 0}
	var err error
	if rand.IntN(2) == 0 {
		c.socket, err = net.ListenPacket("udp", from)
	} else {
		var local *net.TCPAddr
		if local, err = net.ResolveTCPAddr("tcp", from); err == nil {
			var stream net.Conn
			if stream, err = (&net.Dialer{LocalAddr: local}).Dial("tcp", p.relay); err == nil {
				c.socket = turn.NewSTUNConn(stream)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	k := relay.Issue(node.RelayKey(secret), name, call, name, time.Now(), time.Hour)
	c.client, err = turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: p.relay, TURNServerAddr: p.relay, Conn: c.socket, Username: k.Username, Password: k.Password,
	})
	if err == nil {
		err = c.client.Listen()
	}
	if err == nil {
		c.PacketConn, err = c.client.Allocate()
	}
	if err != nil {
		_ = c.socket.Close()
		return nil, err
	}
	c.read.Go(func() {
		b := make([]byte, 2000)
		for {
			if _, _, err := c.ReadFrom(b); err != nil {
				return
			}
			p.received.Add(1)
		}
	})
	return c, nil
}

func (c *party) leave() {
	if c.silent { // what the client says from here on nobody hears
		_ = c.socket.Close()
	}
	_ = c.Close()
	c.client.Close()
	_ = c.socket.Close()
	c.read.Wait()
}

// A sample is what the relay is and has at one time. Memory is in bytes.
type sample struct {
	after                                                      time.Duration
	resident, private, heap                                    float64
	goroutines, files, allocations, connections, relayed, lost float64
}

// watch prints a line each time until ctx is done.
func (r *process) watch(ctx context.Context, p *place, every time.Duration) ([]sample, error) {
	begin := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	fmt.Printf("%6s %10s %10s %9s %10s %6s %11s %11s %9s %8s %6s %9s\n", "s", "resident", "private", "heap",
		"goroutines", "files", "allocations", "connections", "packets", "dropped", "calls", "unheard")
	var all []sample
	for {
		s, err := r.sample()
		if err != nil {
			return all, err
		}
		s.after = time.Since(begin)
		all = append(all, s)
		fmt.Printf("%6.0f %7.2f MB %7.2f MB %6.2f MB %10.0f %6.0f %11.0f %11.0f %9.0f %8.0f %6d %9d\n", s.after.Seconds(),
			s.resident/1e6, s.private/1e6, s.heap/1e6, s.goroutines, s.files, s.allocations, s.connections, s.relayed, s.lost,
			p.calls.Load(), p.sent.Load()-p.received.Load())
		select {
		case <-ctx.Done():
			return all, nil
		case <-tick.C:
		}
	}
}

func (r *process) sample() (s sample, err error) {
	memory, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", r.cmd.Process.Pid))
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(memory)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		n, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "Rss:":
			s.resident = n * 1024
		case "Private_Clean:", "Private_Dirty:":
			s.private += n * 1024
		}
	}
	response, err := (&http.Client{Timeout: 10 * time.Second}).Get(r.metrics)
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		name, _, _ := strings.Cut(series, "{")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "go_goroutines":
			s.goroutines = n
		case "process_open_fds":
			s.files = n
		case "go_memstats_heap_inuse_bytes":
			s.heap = n
		case "visavis_relay_allocations":
			s.allocations = n
		case "visavis_relay_tcp_connections":
			s.connections = n
		case "visavis_relay_packets_total":
			s.relayed += n
		case "visavis_relay_dropped_total":
			s.lost += n
		}
	}
	return s, lines.Err()
}

// balance is when as many allocations expire as are left behind: ten minutes, and some.
const balance = 12 * time.Minute

// judge draws the curve of memory, and says whether what should stand still grows.
func judge(all []sample, p *place) error {
	var steady []sample
	for _, s := range all {
		if s.after >= balance {
			steady = append(steady, s)
		}
	}
	low, high := all[0].private, all[0].private
	for _, s := range all {
		low, high = min(low, s.private), max(high, s.private)
	}
	fmt.Printf("private memory from %.2f to %.2f MB: ", low/1e6, high/1e6)
	bars := []rune("▁▂▃▄▅▆▇█")
	for i := 0; i < len(all); i += max(1, len(all)/60) {
		fmt.Print(string(bars[int((all[i].private-low)/max(1, high-low)*float64(len(bars)-1))]))
	}
	fmt.Println()
	var wrong []error
	if failed := p.failed.Load(); failed > 0 {
		wrong = append(wrong, fmt.Errorf("%d of %d calls failed, the last with: %s", failed, p.calls.Load(), *p.last.Load()))
	}
	if len(steady) < 8 {
		fmt.Println("too short to say whether anything grows: it takes a quarter of an hour until as much goes as comes")
		return errors.Join(wrong...)
	}
	first, last := steady[:len(steady)/3], steady[len(steady)-len(steady)/3:]
	for name, of := range map[string]func(sample) float64{
		"private memory": func(s sample) float64 { return s.private },
		"goroutines":     func(s sample) float64 { return s.goroutines },
		"files":          func(s sample) float64 { return s.files },
	} {
		before, after := median(first, of), median(last, of)
		fmt.Printf("%s: %.0f in the first third of the balanced time, %.0f in the last\n", name, before, after)
		if after > 1.15*before {
			wrong = append(wrong, fmt.Errorf("%s grew from %.0f to %.0f", name, before, after))
		}
	}
	return errors.Join(wrong...)
}

func median(samples []sample, of func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
