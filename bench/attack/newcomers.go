package main

import (
	"fmt"
	"slices"
	"time"
)

// waits is how honest newcomers fared. One that is not let in comes again each half second until it is, and its wait goes on.
type waits struct {
	in, out int
	each    []time.Duration
}

// newcomers come one after the other, two a second, until stop.
func (s *server) newcomers(from string, stop <-chan struct{}) (w waits) {
	began := time.Now()
	for i := 0; ; i++ {
		c, m, err := enter(s.addr, from, fmt.Sprintf("newcomer %d", i))
		if err == nil && m.Type == "welcome" {
			_ = c.write(`{"type":"pong"}`)
			_, _ = c.conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}) // close with 1000: left for good
			w.in++
			w.each = append(w.each, time.Since(began))
		} else {
			w.out++
		}
		if c != nil {
			_ = c.conn.Close()
		}
		select {
		case <-stop:
			if w.out > 0 && (err != nil || m.Type != "welcome") {
				w.each = append(w.each, time.Since(began)) // still waits
			}
			return w
		case <-time.After(500 * time.Millisecond):
		}
		if err == nil && m.Type == "welcome" {
			began = time.Now()
		}
	}
}

func (w waits) longest() time.Duration { return slices.Max(append(w.each, 0)) }

func (w waits) median() time.Duration {
	if len(w.each) == 0 {
		return 0
	}
	slices.Sort(w.each)
	return w.each[len(w.each)/2]
}
