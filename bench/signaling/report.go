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
}

// print writes a table of medians for people, then everything in one line of JSON.
func (r *results) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "\n%d × %s, Linux %s, %s, Node %s, load %.1f; %d rounds, medians (least–most)\n\n",
		m.Cores, m.CPU, m.Kernel, m.Go, m.Node, m.Load, r.Rounds)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tVisavis\tSocket.IO on Node\tratio")
	row := func(what, unit string, of func(server string) []float64) {
		us := of("visavis")
		compare := func(what string, them []float64) {
			if len(us) > 0 && len(them) > 0 {
				fmt.Fprintf(table, "%s\t%s %s\t%s %s\t%.2f\n", what, spread(us), unit, spread(them), unit, median(us)/median(them))
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
	row("CPU a relayed message", "µs", func(server string) (all []float64) {
		for _, f := range r.Relayed {
			if f.Server == server {
				all = append(all, float64(f.CPU)/1e3)
			}
		}
		return all
	})
	if err := table.Flush(); err != nil {
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", line)
	return err
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
	return fmt.Sprintf("%.1f (%.1f–%.1f)", median(values), slices.Min(values), slices.Max(values))
}
