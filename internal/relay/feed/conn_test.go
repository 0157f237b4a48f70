package feed

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	secret  = bytes.Repeat([]byte("s"), 32)
	another = bytes.Repeat([]byte("a"), 32)
)

// shake has a server and a relay shake hands over a pipe.
func shake(t *testing.T, servers []byte, relays ...[]byte) (server, relay *Conn, hello Report, serverErr, relayErr error) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		relay, relayErr = Accept(far, bufio.NewReader(far), relays, &Report{Relay: "it"})
		if relayErr != nil {
			_ = far.Close()
		}
	}()
	server, serverErr = Open(near, servers, &hello)
	if serverErr != nil {
		_ = near.Close()
	}
	<-accepted
	return
}

func TestHandshake(t *testing.T) {
	server, relay, hello, err, err2 := shake(t, secret, another, secret)
	if err != nil || err2 != nil || hello.Relay != "it" {
		t.Fatal(err, err2, hello)
	}
	news := News{Calls: []Call{{ID: "call", Ended: true}}}
	for range 3 {
		sent := make(chan error, 1)
		go func() { sent <- server.Send(&news) }()
		var got News
		if err := errors.Join(relay.Receive(&got), <-sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(news, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, _, _, err, err2 := shake(t, secret, another); !errors.Is(err, ErrSecret) || !errors.Is(err2, ErrSecret) {
		t.Errorf("another secret: %v at the server, %v at the relay, want %v", err, err2, ErrSecret)
	}
}

// What is at a TURN port otherwise hangs up, or says something else.
func TestNoFeed(t *testing.T) {
	for name, says := range map[string]string{"hangs up": "", "says little": "\x01\x01\x00\x00"} {
		near, far := net.Pipe()
		go func() {
			_, _ = io.CopyN(io.Discard, far, int64(len(magic)+idSize+32))
			_, _ = io.WriteString(far, says)
			_ = far.Close()
		}()
		if _, err := Open(near, secret, nil); !errors.Is(err, ErrNoFeed) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoFeed)
		}
		_ = near.Close()
	}
	if _, err := Accept(io.Discard, bufio.NewReader(strings.NewReader("\xffvisavis-feed/9\n")), [][]byte{secret}, nil); !errors.Is(err, ErrNoFeed) {
		t.Errorf("another version: %v, want %v", err, ErrNoFeed)
	}
}

// scribe is one end whose frames can be altered on their way.
func scribe() (write func(v any) []byte, read func(b []byte) error) {
	var out bytes.Buffer
	in := new(bytes.Buffer)
	nonces := bytes.Repeat([]byte("n"), 32)
	from := newConn(&out, nil, secret, nonces, nonces, false)
	to := newConn(nil, in, secret, nonces, nonces, true)
	write = func(v any) []byte {
		out.Reset()
		if err := from.Send(v); err != nil {
			panic(err)
		}
		return bytes.Clone(out.Bytes())
	}
	return write, func(b []byte) error {
		in.Reset()
		in.Write(b)
		return to.Receive(&News{})
	}
}

func TestForgedFrames(t *testing.T) {
	news := &News{Calls: []Call{{ID: "call"}}}
	for name, forge := range map[string]func(write func(any) []byte, read func([]byte) error) error{
		"altered": func(write func(any) []byte, read func([]byte) error) error {
			b := write(news)
			b[len(b)-3] ^= 1
			return read(b)
		},
		"with another MAC": func(write func(any) []byte, read func([]byte) error) error {
			b := write(news)
			b[4] ^= 1
			return read(b)
		},
		"replayed": func(write func(any) []byte, read func([]byte) error) error {
			b := write(news)
			if err := read(b); err != nil {
				return err
			}
			return read(b)
		},
		"left out": func(write func(any) []byte, read func([]byte) error) error {
			write(news)
			return read(write(news))
		},
		"out of order": func(write func(any) []byte, read func([]byte) error) error {
			first, second := write(news), write(nil)
			if read(second) == nil {
				return nil
			}
			return read(first)
		},
		"too long": func(_ func(any) []byte, read func([]byte) error) error {
			return read(append(binary.BigEndian.AppendUint32(nil, longestPayload+1), make([]byte, longestPayload+100)...))
		},
	} {
		write, read := scribe()
		if err := forge(write, read); !errors.Is(err, ErrFrame) {
			t.Errorf("a frame %s: %v, want %v", name, err, ErrFrame)
		}
	}

	// The other direction has another key.
	var out bytes.Buffer
	nonces := bytes.Repeat([]byte("n"), 32)
	relay := newConn(&out, &out, secret, nonces, nonces, true)
	if err := relay.Send(news); err != nil {
		t.Fatal(err)
	}
	if err := relay.Receive(&News{}); !errors.Is(err, ErrFrame) {
		t.Errorf("a frame sent back: %v, want %v", err, ErrFrame)
	}
	if err := relay.Send(&News{Calls: []Call{{ID: strings.Repeat("x", longestPayload)}}}); !errors.Is(err, ErrFrame) {
		t.Errorf("too much to send: %v, want %v", err, ErrFrame)
	}
}

// Before a server has signed something, no memory is taken for what it sends.
func TestTheProofIsEmpty(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	accepted := make(chan error, 1)
	go func() {
		_, err := Accept(far, bufio.NewReader(far), [][]byte{secret}, &Report{})
		_ = far.Close()
		accepted <- err
	}()
	key, servers, relays := purposed(secret), random(), make([]byte, 32)
	if _, err := near.Write(append(append([]byte(magic), id(key)...), servers...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(near, relays); err != nil {
		t.Fatal(err)
	}
	server := newConn(near, near, key, relays, servers, false)
	if err := server.Receive(&Report{}); err != nil {
		t.Fatal(err)
	}
	_ = server.Send([]int{}) // the relay may have hung up
	if err := <-accepted; !errors.Is(err, ErrFrame) {
		t.Errorf("a payload before the proof: %v, want %v", err, ErrFrame)
	}
}

// Who does not go on is given up by whoever set a deadline; here that is the pipe's.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		_ = far.SetDeadline(time.Now().Add(Patience))
		begun := time.Now()
		accepted := make(chan error, 1)
		go func() {
			_, err := Accept(far, bufio.NewReader(far), [][]byte{secret}, nil)
			accepted <- err
		}()
		if _, err := io.WriteString(near, magic); err != nil {
			t.Fatal(err)
		}
		if err := <-accepted; err == nil || time.Since(begun) != Patience {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

func FuzzFrames(f *testing.F) {
	write, _ := scribe()
	first, second := write(&News{Calls: []Call{{ID: "call"}}}), write(nil)
	f.Add(append(bytes.Clone(first), second...), []byte(`{"calls":[{"id":"x","shown":{"y":["1.2.3.4"]}}]}`))
	f.Add(second, []byte(`{"relays":[""]}`))
	f.Add([]byte("\x00\x01\x00\x00"), []byte("null"))
	f.Fuzz(func(t *testing.T, stream, payload []byte) {
		nonces := bytes.Repeat([]byte("n"), 32)
		// Whatever comes, only what was signed, in its order, is a frame.
		in := newConn(nil, bytes.NewReader(stream), secret, nonces, nonces, true)
		for rest, i := stream, 0; ; i++ {
			var news News
			if in.Receive(&news) != nil {
				break
			}
			want := [][]byte{first, second}
			if i >= len(want) || !bytes.HasPrefix(rest, want[i]) {
				t.Fatalf("frame %d of %x is taken", i, stream)
			}
			rest = rest[len(want[i]):]
		}
		// Whatever a server that holds the secret says breaks nothing.
		if len(payload) <= longestPayload {
			var wire bytes.Buffer
			out := newConn(&wire, nil, secret, nonces, nonces, false)
			wire.Write(binary.BigEndian.AppendUint32(nil, uint32(len(payload))))
			wire.Write(out.out.next(payload))
			wire.Write(payload)
			_ = newConn(nil, &wire, secret, nonces, nonces, true).Receive(&News{})
		}
		_, _ = Accept(io.Discard, bufio.NewReader(bytes.NewReader(stream)), [][]byte{secret}, nil)
	})
}
