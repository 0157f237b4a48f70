package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/visavis/visavis/internal/turnload"
)

// machine is where a run took place.
type machine struct {
	CPU, Kernel, Go, Coturn string
	Cores                   int
}

func describeMachine(ctx context.Context, coturn string) machine {
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
	if out, err := exec.CommandContext(ctx, coturn, "--version").Output(); err == nil {
		m.Coturn = strings.TrimSpace(string(out))
	}
	return m
}

// await returns when the machine rests, or when patience ends.
func await(ctx context.Context, patience time.Duration) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	last, at := busyTicks(), time.Now()
	for began := at; time.Since(began) < patience; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := busyTicks()
		share := float64(now-last) / 100 / time.Since(at).Seconds() // USER_HZ is 100
		if share < quiet {
			return
		}
		last, at = now, time.Now()
	}
}

// busyTicks is what all processors together have run.
func busyTicks() int {
	stat, _ := os.ReadFile("/proc/stat")
	var user, nice, system, idle, wait, irq, softirq, steal int
	_, _ = fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq, &steal)
	return user + nice + system + irq + softirq + steal
}

// print writes tables for people.
func (m *measurement) print(out io.Writer) error {
	fmt.Fprintf(out, "%d cores (%s), Linux %s, %s, coturn %s; %d rounds, %s each; medians, smallest to largest in brackets.\n",
		m.Machine.Cores, m.Machine.CPU, m.Machine.Kernel, m.Machine.Go, m.Machine.Coturn, m.settings.rounds, m.settings.measure)
	if len(m.Figures) > 0 {
		fmt.Fprint(out, "\n| load | coturn, µs a packet | ours | ratio | coturn, packets/s | ours | coturn p50, p99, µs | ours | coturn lost, % | ours | figures |\n"+
			"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	}
	var names []string
	for _, f := range m.Figures {
		if !slices.Contains(names, f.Load.Name) {
			names = append(names, f.Load.Name)
		}
	}
	cpu := func(r turnload.Result) float64 { return r.Server.CPUUsPerPacket }
	for _, name := range names {
		theirs, ours := m.of("coturn", name), m.of("visavis", name)
		ratio := fmt.Sprintf("**%.2f**", median(each(ours, cpu))/median(each(theirs, cpu)))
		row := []string{name, spread(each(theirs, cpu), "%.2f"), spread(each(ours, cpu), "%.2f"), ratio}
		for _, column := range []func([]turnload.Result) string{
			func(all []turnload.Result) string {
				return fmt.Sprintf("%.0f", median(each(all, func(r turnload.Result) float64 { return r.PacketsPerSecond })))
			},
			func(all []turnload.Result) string {
				return fmt.Sprintf("%.0f, %.0f", median(each(all, func(r turnload.Result) float64 { return r.Latency.P50Us })),
					median(each(all, func(r turnload.Result) float64 { return r.Latency.P99Us })))
			},
			func(all []turnload.Result) string {
				return fmt.Sprintf("%.2f", median(each(all, func(r turnload.Result) float64 { return r.Loss * 100 })))
			},
		} {
			row = append(row, column(theirs), column(ours))
		}
		row = append(row, fmt.Sprintf("%d, %d", len(theirs), len(ours)))
		fmt.Fprintln(out, "|", strings.Join(row, " | "), "|")
	}
	if len(m.Memory) > 0 {
		fmt.Fprint(out, "\n| allocations | server | memory before | grows by, KB each | made in, s |\n| --- | --- | --- | --- | --- |\n")
	}
	for _, f := range m.Memory {
		fmt.Fprintf(out, "| %d | %s | %.1f MB | %.2f | %.1f |\n", f.Load.Legs, f.Server, float64(f.Result.Server.RSSBefore)/1e6,
			f.Result.Server.BytesPerAllocation/1e3, f.AllocateMs/1000)
	}
	for _, failure := range m.failures {
		fmt.Fprintln(out, "\nNot done:", failure)
	}
	return m.doubt(out)
}

// doubt says how much else the machine did.
func (m *measurement) doubt(out io.Writer) error {
	var others []float64
	busy, late := 0, 0
	for _, f := range m.Figures {
		others = append(others, f.OthersCPU*100)
		if f.OthersCPU > quiet {
			busy++
		}
		if f.Load.Name != "saturation" && float64(f.Sent) < 0.98*float64(f.Offered) {
			late++
		}
	}
	if len(others) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "\nOther programs used %.0f %% of a core at the median, %.0f %% at most; %d of %d figures were taken with more than "+
		"%.0f %%, and are left out where there are others; in %d the generator did not keep up with the rate.\n",
		median(others), slices.Max(others), busy, len(others), quiet*100, late)
	return err
}

// of are the results of a server under a load: those while other programs rested, where there are any.
func (m *measurement) of(server, name string) []turnload.Result {
	var all, good []turnload.Result
	for _, f := range m.Figures {
		if f.Server != server || f.Load.Name != name {
			continue
		}
		all = append(all, f.Result)
		if f.OthersCPU <= quiet {
			good = append(good, f.Result)
		}
	}
	if len(good) > 0 {
		return good
	}
	return all
}

func each(all []turnload.Result, figure func(turnload.Result) float64) []float64 {
	values := make([]float64, len(all))
	for i, r := range all {
		values[i] = figure(r)
	}
	return values
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread is the median and, in brackets, the smallest and the largest.
func spread(values []float64, format string) string {
	if len(values) == 0 {
		return "–"
	}
	text := fmt.Sprintf(format, median(values))
	if len(values) > 1 {
		text += fmt.Sprintf(" ("+format+"–"+format+")", slices.Min(values), slices.Max(values))
	}
	return text
}
