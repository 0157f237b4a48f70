package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// results are all that was measured.
type results struct {
	Machine machine          `json:"machine"`
	Rounds  int              `json:"rounds"`
	Idle    []idleFigures    `json:"idle,omitempty"`
	Relayed []relayedFigures `json:"relayed,omitempty"`
	Calls   []callFigures    `json:"calls,omitempty"`
}

// print writes a table of medians for people, then everything in one line of JSON.
func (r *results) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "\n%d × %s, Linux %s, %s, Node %s, load %.1f; %d rounds, medians (least–most)\n\n",
		m.Cores, m.CPU, m.Kernel, m.Go, m.Node, m.Load, r.Rounds)
	table := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.Debug)
	fmt.Fprintln(table, "\t \tVisavis\tSocket.IO on Node\tratio\t")
	fmt.Fprintln(table, "\t---\t---\t---\t---\t")
	row := func(what, unit string, of func(server string) []float64) {
		us := of("visavis")
		compare := func(what string, them []float64) {
			if len(us) > 0 && len(them) > 0 {
				fmt.Fprintf(table, "\t%s\t%s %s\t%s %s\t%.2f\t\n", what, spread(us), unit, spread(them), unit, median(us)/median(them))
			}
		}
		compare(what, of("Socket.IO"))
		compare(what+" (beside: before)", of("before"))
	}
	idle := func(of func(idleFigures) float64) func(string) []float64 {
		return func(server string) (all []float64) {
			for _, f := range r.Idle {
				if f.Server == server {
					all = append(all, of(f))
				}
			}
			return all
		}
	}
	row("the process, 100 connections", "MB", idle(func(f idleFigures) float64 { return float64(f.Process) / 1e6 }))
	row("an idle connection, on arrival", "KB", idle(func(f idleFigures) float64 { return float64(f.Arrived) / float64(f.Connections) / 1e3 }))
	row("an idle connection, after a collection", "KB", idle(func(f idleFigures) float64 { return float64(f.Collected) / float64(f.Connections) / 1e3 }))
	relayed := func(of func(relayedFigures) int64, unit float64) func(string) []float64 {
		return func(server string) (all []float64) {
			for _, f := range r.Relayed {
				if f.Server == server {
					all = append(all, float64(of(f))/unit)
				}
			}
			return all
		}
	}
	row("CPU a relayed message", "µs", relayed(func(f relayedFigures) int64 { return f.CPU }, 1e3))
	row("its hop, p50", "ms", relayed(func(f relayedFigures) int64 { return f.Median }, 1e6))
	row("its hop, p99", "ms", relayed(func(f relayedFigures) int64 { return f.P99 }, 1e6))
	if err := table.Flush(); err != nil {
		return err
	}
	r.printCalls(w, "visavis", "")
	r.printCalls(w, "before", ", before")
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", line)
	return err
}

// printCalls writes what calls took with one server, at each load.
func (r *results) printCalls(w io.Writer, server, label string) {
	calls := slices.DeleteFunc(slices.Clone(r.Calls), func(f callFigures) bool { return f.Server != server })
	if len(calls) == 0 {
		return
	}
	row := func(what, unit string, of func(callFigures) float64) {
		fmt.Fprintf(w, "| %s |", what)
		for _, load := range []string{"given", "half"} {
			var all []float64
			for _, f := range calls {
				if f.Load == load {
					all = append(all, of(f))
				}
			}
			fmt.Fprintf(w, " %s %s |", spread(all), unit)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\n| %d sessions%s | %.0f calls a minute | half load |\n| --- | --- | --- |\n", calls[0].Sessions, label, calls[0].PerMinute)
	row("calls a minute", "", func(f callFigures) float64 { return f.PerMinute })
	row("CPU a call", "ms", func(f callFigures) float64 { return float64(f.CPU) / 1e6 })
	row("of one core", "%", func(f callFigures) float64 { return 100 * f.Share })
	row("of that, the idle sessions", "%", func(f callFigures) float64 { return 100 * f.Idle })
	row("a hop, p50", "ms", func(f callFigures) float64 { return float64(f.Median) / 1e6 })
	row("a hop, p99", "ms", func(f callFigures) float64 { return float64(f.P99) / 1e6 })
	row("lateness of a timer, p99", "ms", func(f callFigures) float64 { return float64(f.Late) / 1e6 })
	row("stolen by the host", "%", func(f callFigures) float64 { return 100 * f.Stolen })
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// spread is the median of values with their least and most.
func spread(values []float64) string {
	digits := 1
	if median(values) < 10 {
		digits = 2
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, median(values), digits, slices.Min(values), digits, slices.Max(values))
}
