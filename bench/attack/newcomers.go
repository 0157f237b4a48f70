package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	public "github.com/visavis/visavis/client"
	"github.com/visavis/visavis/protocol"
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
		err := s.visit(from, fmt.Sprintf("newcomer %d", i), func() {
			w.in++
			w.each = append(w.each, time.Since(began))
		})
		if err != nil {
			w.out++
		}
		select {
		case <-stop:
			if w.out > 0 && err != nil {
				w.each = append(w.each, time.Since(began)) // still waits
			}
			return w
		case <-time.After(500 * time.Millisecond):
		}
		if err == nil {
			began = time.Now()
		}
	}
}

// visit comes in by a name, tells so, and leaves.
func (s *server) visit(from, name string, in func()) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := public.Dial(ctx, public.Config{
		URL: "http://" + s.addr, Hello: protocol.Hello{Name: name},
		Dial: func(context.Context, string, string) (net.Conn, error) { return dial(s.addr, from) },
	})
	if err != nil {
		return err
	}
	in()
	return c.Close()
}

func (w waits) longest() time.Duration { return slices.Max(append(w.each, 0)) }

func (w waits) median() time.Duration {
	if len(w.each) == 0 {
		return 0
	}
	slices.Sort(w.each)
	return w.each[len(w.each)/2]
}
