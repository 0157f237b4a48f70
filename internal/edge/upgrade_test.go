package edge

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A message that has begun must end: bytes that trickle in, and control frames between its fragments, do not renew its
// time. A connection between two messages may be silent for ever.
func TestHalfMessagesHaveADeadline(t *testing.T) {
	whole := frame(0x81, "a whole message")
	for name, test := range map[string]struct {
		sent  [][]byte
		every time.Duration
		ends  bool
	}{
		"nothing":                    {nil, time.Minute, false},
		"whole messages":             {[][]byte{whole, whole, whole}, time.Minute, false},
		"one byte":                   {[][]byte{whole[:1]}, time.Second, true},
		"half a payload":             {[][]byte{whole, whole[:10]}, time.Second, true},
		"bytes that trickle":         {split(frame(0x81, string(make([]byte, 100)))), 5 * time.Second, true},
		"a fragment":                 {[][]byte{frame(0x01, "a")}, time.Second, true},
		"pongs between fragments":    {append([][]byte{frame(0x01, "a")}, repeated(frame(0x8a, ""), 20)...), 5 * time.Second, true},
		"two halves in time":         {[][]byte{whole[:10], whole[10:]}, 20 * time.Second, false},
		"several messages in halves": {[][]byte{whole[:10], whole[10:], whole[:10], whole[10:]}, 20 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer func() { _ = errors.Join(client.Close(), server.Close()) }()
				l, ended := &checkedConn{Conn: server}, make(chan error, 1)
				go func() {
					for b := make([]byte, 64); ; {
						if _, err := l.Read(b); err != nil {
							ended <- err
							return
						}
					}
				}()
				wrote := make(chan struct{})
				go func() {
					defer close(wrote)
					for _, part := range test.sent {
						if _, err := client.Write(part); err != nil {
							return
						}
						<-time.After(test.every)
					}
				}()
				select {
				case err := <-ended:
					if !test.ends || !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("the reader ended with %v", err)
					}
				case <-time.After(10 * time.Minute):
					if test.ends {
						t.Error("the connection stands after 10 minutes")
					}
					_ = client.Close()
					if err := <-ended; err == nil {
						t.Error("the reader ended without an error")
					}
				}
				_ = server.Close() // as gws' reader does at the end
				<-wrote
			})
		})
	}
}

// split is a frame byte by byte.
func split(b []byte) (bytes [][]byte) {
	for i := range b {
		bytes = append(bytes, b[i:i+1])
	}
	return bytes
}

// repeated is a frame so many times.
func repeated(b []byte, n int) (frames [][]byte) {
	for range n {
		frames = append(frames, b)
	}
	return frames
}
