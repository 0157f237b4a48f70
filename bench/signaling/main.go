// Signaling measures what our server costs beside a Socket.IO server on Node that does the same: the memory of an idle
// connection, and the CPU time of a relayed message; and, of ours alone, what a whole call takes while many sessions stand. Each server is a process of its own and is measured from outside, by
// what the kernel says of it; the clients are the same program for both. Rounds go A B A B, and medians are told.
//
//	make bench-signaling     or     go run ./bench/signaling -rounds 1 -connections 1000
//
// How and why so: bench/README.md. Nothing here fails for being slow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are what can be chosen for a run.
type settings struct {
	rounds, connections, pairs, messages int
	rate                                 float64 // messages a second of each session
	calls                                float64 // a minute
	server, before, peer                 string  // our binary, and an earlier one; the folder of the peer
	metrics                              string  // where ours go
}

// maxMessages is PROTOCOL.md's limit of candidates between two descriptions of a party, maxRate below that of messages.
const (
	maxMessages = 100
	maxRate     = 15
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "signaling:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s settings
	only := flag.String("only", "", "measure only `memory`, cpu or calls")
	flag.IntVar(&s.rounds, "rounds", 3, "how often each is measured")
	flag.IntVar(&s.connections, "connections", 20_000, "idle connections, as far as the system lets one process have them")
	flag.Float64Var(&s.calls, "calls", 2000, "calls a minute, before half load")
	flag.IntVar(&s.pairs, "pairs", 300, "calls that relay messages")
	flag.Float64Var(&s.rate, "rate", 5, "messages a second of each party of a call")
	flag.IntVar(&s.messages, "messages", maxMessages/(windows+1), "messages of each party in one window")
	flag.StringVar(&s.server, "visavis", "", "our server's `binary`; built from the sources by default")
	flag.StringVar(&s.before, "before", "", "another `binary` of ours, to measure a change by")
	flag.StringVar(&s.peer, "peer", "", "the `folder` of the peer; bench/peer by default")
	flag.StringVar(&s.metrics, "metrics", "", "`file` to keep our /metrics in, after each measurement of memory")
	flag.Parse()
	if s.messages < 1 || s.messages > maxMessages/windows || s.rate <= 0 || s.rate > maxRate {
		return fmt.Errorf("-messages is from 1 to %d, -rate up to %d: the server refuses more", maxMessages/windows, maxRate)
	}
	if err := s.limitConnections(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "visavis-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := s.find(ctx, dir); err != nil {
		return err
	}

	us, err := visavis(ctx, s.server, dir)
	if err != nil {
		return err
	}
	debug.SetGCPercent(400) // that the clients collect garbage is no part of a hop
	began := time.Now()
	var r results
	own := []contestant{us}
	if s.before != "" {
		before, err := visavis(ctx, s.before, dir)
		if err != nil {
			return err
		}
		before.name = "before"
		own = append(own, before)
	}
	contestants := append(slices.Clone(own), socketIO(s.peer))
	for round := range s.rounds {
		tell := func(server, what string) {
			fmt.Fprintf(os.Stderr, "%4.0f s  round %d of %d  %-9s  %s\n", time.Since(began).Seconds(), round+1, s.rounds, server, what)
		}
		if *only == "" || *only == "memory" {
			for _, c := range contestants {
				figures, err := measureIdle(ctx, c, s, func(what string) { tell(c.name, what) })
				if err != nil {
					return fmt.Errorf("%s: idle connections: %w", c.name, err)
				}
				r.Idle = append(r.Idle, figures)
			}
		}
		if *only == "" || *only == "calls" {
			for _, c := range own {
				figures, err := measureCalls(ctx, c, s, func(what string) { tell(c.name, what) })
				if err != nil {
					return fmt.Errorf("%s: calls: %w", c.name, err)
				}
				r.Calls = append(r.Calls, figures...)
			}
		}
		if *only == "" || *only == "cpu" {
			figures, err := measureRelayed(ctx, contestants, s, tell)
			if err != nil {
				return fmt.Errorf("relayed messages: %w", err)
			}
			r.Relayed = append(r.Relayed, figures...)
		}
	}
	r.Machine = describeMachine(ctx)
	r.Rounds = s.rounds
	return r.print(os.Stdout)
}

// limitConnections stays within what the system lets one process open.
func (s *settings) limitConnections() error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	const others = 160 // files that are no client's
	if need := uint64(s.connections + others); files.Max < need {
		// Root may raise it, and the servers inherit it.
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: need})
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
			return err
		}
	}
	if most := int(files.Max) - others; s.connections > most {
		fmt.Fprintf(os.Stderr, "only %d connections: ulimit -Hn is %d\n", most, files.Max)
		s.connections = most
	}
	if s.connections < 1 || 2*s.pairs > s.connections {
		return errors.New("-connections is too few, or ulimit -Hn too low, for that many -pairs")
	}
	return nil
}

// find builds our server unless it is given, and looks for the peer.
func (s *settings) find(ctx context.Context, dir string) error {
	out, err := command(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env GOMOD: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if s.peer == "" {
		s.peer = filepath.Join(root, "bench", "peer")
	}
	if _, err := os.Stat(filepath.Join(s.peer, "node_modules", "socket.io")); err != nil {
		return errors.New("the peer's packages are not installed\nhint: npm ci --prefix bench/peer")
	}
	if s.server == "" {
		s.server = filepath.Join(dir, "visavis")
		build := command(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", s.server, "./cmd/visavis")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build our server: %w\n%s", err, out)
		}
	}
	s.server, err = filepath.Abs(s.server)
	return err
}

// machine is where a run took place.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Node   string `json:"node"`
	// Load is the load average of the last minute: what else was running, too.
	Load float64 `json:"load"`
}

func describeMachine(ctx context.Context) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.Trim(name, "\t: \n")
				break
			}
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(release)), "-")
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(load), &m.Load)
	}
	if out, err := command(ctx, "node", "--version").Output(); err == nil {
		m.Node = strings.TrimSpace(string(out))
	}
	return m
}
