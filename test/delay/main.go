// Delay is a network interface whose packets take their time: half a round trip
// each way, for tests and measurements on machines whose kernel has no netem.
//
//	delay -near here -far there -each-way 25ms
//
// It makes two TUN devices, ties them together and says "ready"; what is then done
// with them (addresses, routes, another namespace for the far one) is ip(8)'s
// business. It ends with its standard input. Needs CAP_NET_ADMIN.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	near := flag.String("near", "near", "name of the one device")
	far := flag.String("far", "far", "name of the other")
	eachWay := flag.Duration("each-way", 25*time.Millisecond, "how long a packet takes")
	flag.Parse()
	if err := run(*near, *far, *eachWay); err != nil {
		fmt.Fprintln(os.Stderr, "delay:", err)
		os.Exit(1)
	}
}

func run(near, far string, eachWay time.Duration) error {
	a, err := open(near)
	if err != nil {
		return err
	}
	b, err := open(far)
	if err != nil {
		return err
	}
	failed := make(chan error, 4)
	carry(a, b, eachWay, failed)
	carry(b, a, eachWay, failed)
	fmt.Fprintln(os.Stdout, "ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		failed <- nil
	}()
	return <-failed
}

// open makes a TUN device (linux/Documentation/networking/tuntap.rst).
func open(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, fmt.Errorf("make device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// A packet is due at a time; they stay in order, for each takes as long.
type packet struct {
	due  time.Time
	data []byte
}

// waiting bounds the packets that are under way; more are dropped, as a router would.
const waiting = 4096

// carry takes packets from one device to the other until one of them is gone.
func carry(from, to *os.File, eachWay time.Duration, failed chan<- error) {
	underWay := make(chan packet, waiting)
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				failed <- fmt.Errorf("read from %s: %w", from.Name(), err)
				return
			}
			select {
			case underWay <- packet{time.Now().Add(eachWay), append([]byte(nil), buffer[:n]...)}:
			default:
			}
		}
	}()
	go func() {
		runtime.LockOSThread()
		for p := range underWay {
			wait(p.due)
			// A device that is down takes nothing (EIO), one that is full drops.
			if _, err := to.Write(p.data); err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EAGAIN) {
				failed <- fmt.Errorf("write to %s: %w", to.Name(), err)
				return
			}
		}
	}()
}

// wait sleeps by the kernel's clock: the runtime's own timers go off up to a millisecond late, at each of a path's hops.
func wait(due time.Time) {
	for left := time.Until(due); left > 0; left = time.Until(due) {
		t := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&t, nil) // EINTR: the rest of it is slept next
	}
}
