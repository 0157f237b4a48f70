// Relay measures what our relay costs beside coturn, under the same loads, from the same generator, in the same run:
// CPU time a packet, latency, and the memory of an allocation. Each server is a process of its own on loopback and is
// measured from outside. Rounds go A B A B, and medians are told.
//
//	make bench-relay     or     go run ./bench/relay -rounds 1 -loads smooth,audio
//
// How and why so: bench/README.md. Nothing here fails for being slow.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/visavis/visavis/internal/turnload"
)

// settings are what can be chosen for a run.
type settings struct {
	rounds, again      int
	measure, patience  time.Duration
	loads              string
	memory, gso        bool
	visavis, coturn    string // binaries
	results            string
	atOnce, allocation int
}

// quiet is the share of a core that other programs may use while something is measured; beyond, it is measured again.
const quiet = 0.25

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 5, "how often each is measured")
	flag.IntVar(&s.again, "again", 2, "how often what was measured while other programs ran is measured again")
	flag.DurationVar(&s.patience, "patience", 30*time.Second, "how long to wait, before each is measured, until other programs rest")
	flag.DurationVar(&s.measure, "time", 6*time.Second, "how long each is measured")
	flag.StringVar(&s.loads, "loads", "smooth,audio,video,saturation,pair", "`names` of loads, with commas")
	flag.BoolVar(&s.memory, "memory", true, "measure the memory of allocations, too")
	flag.BoolVar(&s.gso, "gso", false, "bursts arrive at the server in one piece")
	flag.IntVar(&s.allocation, "allocations", 2000, "those whose memory is measured")
	flag.IntVar(&s.atOnce, "at-once", 10_000, "those that are made at once")
	flag.StringVar(&s.visavis, "visavis", "", "our server's `binary`; built from the sources by default")
	flag.StringVar(&s.coturn, "coturn", "/usr/bin/turnserver", "coturn's `binary`")
	flag.StringVar(&s.results, "json", "", "`file` for all that was measured")
	flag.Parse()
	if s.rounds < 1 {
		return errors.New("-rounds is at least 1")
	}
	var loads []turnload.Load
	for name := range strings.SplitSeq(s.loads, ",") {
		l, ok := turnload.Preset(name)
		if !ok && name != "" {
			return fmt.Errorf("-loads: %q is no load", name)
		}
		if ok {
			loads = append(loads, l)
		}
	}
	dir, err := os.MkdirTemp("", "visavis-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := s.find(ctx, dir); err != nil {
		return err
	}
	unlock, err := alone(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m := measurement{settings: s, dir: dir, began: time.Now(), contestants: []contestant{coturn(s.coturn), visavis(s.visavis)}}
	m.Machine = describeMachine(ctx, s.coturn)
	// What was measured until something went wrong, or someone had enough, is told all the same.
	failed := m.all(ctx, loads)
	if s.results != "" {
		text, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.results, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(failed, m.print(os.Stdout))
}

// alone waits until no other run of this program measures on this machine: both would be spoiled.
func alone(ctx context.Context) (unlock func(), err error) {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "visavis-bench-relay.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	told := false
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		if !told {
			told = true
			fmt.Fprintln(os.Stderr, "another run measures: waiting for its end")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// find builds our server unless it is given, and looks for coturn.
func (s *settings) find(ctx context.Context, dir string) error {
	if _, err := exec.LookPath(s.coturn); err != nil {
		return fmt.Errorf("coturn is not there: %w\nhint: apt-get install coturn (and let no service of it run)", err)
	}
	if s.visavis == "" {
		s.visavis = filepath.Join(dir, "visavis")
		out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
		if err != nil {
			return fmt.Errorf("go env GOMOD: %w", err)
		}
		build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", s.visavis, "./cmd/visavis")
		build.Dir, build.Env = filepath.Dir(strings.TrimSpace(string(out))), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build our server: %w\n%s", err, out)
		}
	}
	var err error
	s.visavis, err = filepath.Abs(s.visavis)
	return err
}

// A figure is one measurement of one server.
type figure struct {
	Server string
	Round  int
	turnload.Result
}

// measurement is all of them.
type measurement struct {
	settings    settings
	dir         string
	began       time.Time
	contestants []contestant
	Machine     machine
	Figures     []figure // under load
	Memory      []figure // without
	failures    []string // what a server could not do
}

func (m *measurement) tell(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "%5.0f s  %s\n", time.Since(m.began).Seconds(), fmt.Sprintf(format, values...))
}

func (m *measurement) all(ctx context.Context, loads []turnload.Load) error {
	for round := range m.settings.rounds {
		if err := m.round(ctx, round, loads); err != nil {
			return err
		}
	}
	if !m.settings.memory {
		return nil
	}
	for _, legs := range []int{m.settings.allocation, m.settings.atOnce} {
		for _, c := range m.contestants {
			if err := m.allocations(ctx, c, legs); err != nil {
				return fmt.Errorf("%s: %d allocations: %w", c.name, legs, err)
			}
		}
	}
	return nil
}

// round measures each load with both servers, one right after the other.
func (m *measurement) round(ctx context.Context, round int, loads []turnload.Load) error {
	if len(loads) == 0 {
		return nil
	}
	var servers []*server
	for _, c := range m.contestants {
		s, err := c.launch(ctx, m.dir)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		defer s.stop()
		servers = append(servers, s)
	}
	for _, l := range loads {
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			result, err := m.quietest(ctx, s, l)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.name, l.Name, err)
			}
			m.Figures = append(m.Figures, figure{s.name, round, result})
			m.tell("round %d of %d  %-10s  %-7s  %5.2f µs a packet, %5.0f packets/s, lost %.2f %%, p50 %.0f µs, p99 %.0f µs, all else %.0f %% of a core",
				round+1, m.settings.rounds, l.Name, s.name, result.Server.CPUUsPerPacket, result.PacketsPerSecond, result.Loss*100,
				result.Latency.P50Us, result.Latency.P99Us, result.OthersCPU*100)
		}
	}
	return nil
}

// quietest measures until nothing else ran, or as often as is meant, and is the best of it.
func (m *measurement) quietest(ctx context.Context, s *server, l turnload.Load) (turnload.Result, error) {
	var best turnload.Result
	for i := range m.settings.again + 1 {
		await(ctx, m.settings.patience)
		result, err := s.drive(ctx, l, m.settings.measure, m.settings.gso)
		if err != nil {
			return best, err
		}
		if i == 0 || result.OthersCPU < best.OthersCPU {
			best = result
		}
		if best.OthersCPU <= quiet {
			break
		}
	}
	return best, nil
}

// allocations measures their memory in a server that has just started.
func (m *measurement) allocations(ctx context.Context, c contestant, legs int) error {
	s, err := c.launch(ctx, m.dir)
	if err != nil {
		return err
	}
	defer s.stop()
	l, _ := turnload.Preset("idle")
	l.Legs = legs
	result, err := s.drive(ctx, l, 2*time.Second, false)
	var refused *turnload.RefusedError
	if errors.As(err, &refused) || errors.Is(err, turnload.ErrSilent) {
		m.failures = append(m.failures, fmt.Sprintf("%s: %d allocations: %v", c.name, legs, err))
		return nil
	}
	if err != nil {
		return err
	}
	m.Memory = append(m.Memory, figure{c.name, 0, result})
	m.tell("%d allocations  %-7s  %.2f KB each, made in %.1f s", legs, c.name,
		result.Server.BytesPerAllocation/1000, result.AllocateMs/1000)
	return nil
}
