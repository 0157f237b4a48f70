package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lxzan/gws"

	"github.com/visavis/visavis/client"
	"github.com/visavis/visavis/protocol"
)

// fakeServer is the server's end of a client's connections, in a test's own time.
type fakeServer struct {
	t     *testing.T
	conns chan net.Conn
}

func newFakeServer(t *testing.T) *fakeServer { return &fakeServer{t, make(chan net.Conn, 8)} }

func (s *fakeServer) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.conns <- theirs
	return ours, nil
}

// fakeConn is one connection at a fakeServer.
type fakeConn struct {
	gws.BuiltinEventHandler
	t      *testing.T
	conn   net.Conn
	socket *gws.Conn
	frames chan string // what the client has sent
	closed chan error
}

func (c *fakeConn) OnMessage(_ *gws.Conn, message *gws.Message) { c.frames <- message.Data.String() }
func (c *fakeConn) OnClose(_ *gws.Conn, err error)              { c.closed <- err }

// accept takes the next connection. If it is to be read, everything that the client sends is.
func (s *fakeServer) accept(read bool) *fakeConn {
	s.t.Helper()
	c := &fakeConn{t: s.t, conn: <-s.conns, frames: make(chan string, 1024), closed: make(chan error, 1)}
	in := bufio.NewReader(c.conn)
	r, err := http.ReadRequest(in)
	if err == nil {
		c.socket, err = gws.NewUpgrader(c, nil).UpgradeFromConn(c.conn, in, r)
	}
	if err != nil {
		s.t.Error(err)
		return c
	}
	if read {
		go c.socket.ReadLoop()
	}
	return c
}

func (c *fakeConn) send(frame string) {
	c.t.Helper()
	if err := c.socket.WriteString(frame); err != nil {
		c.t.Error(err)
	}
}

// welcome waits for a hello that has something in it, and answers.
func (c *fakeConn) welcome(hello, more string) {
	c.t.Helper()
	if got := <-c.frames; !strings.Contains(got, `"type":"hello"`) || !strings.Contains(got, hello) {
		c.t.Errorf("the client said %s, want %s in its hello", got, hello)
	}
	c.send(`{"type":"welcome","session":"s1","resume":"r1","user":{"id":"u1","name":"Ann"},"token":"t1","iceServers":[],"timings":{"pingMs":25000}` + more + `}`)
}

func (c *fakeConn) expect(want string) {
	c.t.Helper()
	if got := <-c.frames; got != want {
		c.t.Errorf("the client said %s, want %s", got, want)
	}
}

// welcomed is a client of a fake server and its connection there.
func welcomed(t *testing.T, s *fakeServer) (*client.Client, *fakeConn) {
	t.Helper()
	accepted := make(chan *fakeConn)
	go func() {
		c := s.accept(true)
		c.welcome(`"name":"Ann"`, "")
		accepted <- c
	}()
	ann, err := client.Dial(t.Context(), client.Config{URL: "http://fake", Hello: guest("Ann"), Dial: s.dial})
	if err != nil {
		t.Fatal(err)
	}
	return ann, <-accepted
}

func TestPingsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann, c := welcomed(t, newFakeServer(t))
		c.send(`{"type":"ping","ack":0}`)
		c.expect(`{"type":"pong","ack":0}`)
		c.send(`{"seq":1,"type":"ended","call":"n1-x","reason":"hungup","durationMs":0}`)
		c.send(`{"type":"ping","ack":0}`)
		c.expect(`{"type":"pong","ack":1}`)
		_ = ann.Close()
	})
}

// TestASilentServerIsLeft: without a sign of life for two pings the connection is dead, and the session is resumed.
func TestASilentServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		ann, c := welcomed(t, s)
		time.Sleep(40 * time.Second) //nolint:forbidigo // of a bubble
		c.send(`{"seq":1,"type":"ended","call":"n1-x","reason":"hungup","durationMs":0}`)
		heard := time.Now()
		if err, lost := (<-c.closed), time.Since(heard); lost != 50*time.Second || errors.As(err, new(*gws.CloseError)) {
			t.Errorf("the connection ended after %v with %v, want after 50s without a close frame", lost, err)
		}
		again := s.accept(true)
		if wait := time.Since(heard) - 50*time.Second; wait > 500*time.Millisecond {
			t.Errorf("the client came back after %v", wait)
		}
		again.welcome(`"token":"t1","resume":"r1","received":1`, `,"resumed":true`)
		synctest.Wait()
		_ = ann.Close()
	})
}

// TestAServerThatReadsNothing holds Send up for ten seconds; what it could not send is sent when the session is resumed.
func TestAServerThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		accepted := make(chan *fakeConn)
		go func() {
			c := s.accept(false)
			buffer := make([]byte, 1<<10)
			if _, err := c.conn.Read(buffer); err != nil { // the hello
				t.Error(err)
			}
			c.frames <- `{"type":"hello"}`
			c.welcome("", "")
			accepted <- c
		}()
		ann, err := client.Dial(t.Context(), client.Config{URL: "http://fake", Hello: guest("Ann"), Dial: s.dial})
		if err != nil {
			t.Fatal(err)
		}
		<-accepted
		began := time.Now()
		if err := ann.Send(&protocol.Decline{Call: "n1-x"}); err != nil {
			t.Errorf("send: %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("Send took %v, want 10s", took)
		}
		again := s.accept(true)
		again.welcome(`"resume":"r1"`, `,"resumed":true`)
		again.expect(`{"seq":1,"type":"decline","call":"n1-x"}`)
		_ = ann.Close()
	})
}

func TestDialWaitsTenSecondsForTheWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		go s.accept(true)
		began := time.Now()
		_, err := client.Dial(t.Context(), client.Config{URL: "http://fake", Hello: guest("Ann"), Dial: s.dial})
		if took := time.Since(began); took != 10*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial gave up after %v with %v", took, err)
		}
	})
}

// TestAClientComesBackWhenToldTo waits as a server that restarts asks it to, and then ever longer.
func TestAClientComesBackWhenToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		ann, c := welcomed(t, s)
		c.send(`{"seq":1,"type":"restarting","minMs":20000,"maxMs":30000}`)
		lost := time.Now()
		_ = c.socket.WriteClose(uint16(protocol.CloseRestarting), nil)
		next := <-s.conns
		if wait := time.Since(lost); wait < 20*time.Second || wait > 30*time.Second {
			t.Errorf("the client came back after %v, want 20s to 30s", wait)
		}
		for try := range 30 {
			_ = next.Close()
			lost = time.Now()
			next = <-s.conns
			if wait, most := time.Since(lost), min(10*time.Second, time.Second<<try); wait > most {
				t.Errorf("the client came back after %v, want at most %v", wait, most)
			}
		}
		_ = next.Close()
		_ = ann.Close()
	})
}

// TestAHangupThatIsSentLateSaysSo: the server dates the end of the call by it.
func TestAHangupThatIsSentLateSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		ann, c := welcomed(t, s)
		_ = c.conn.Close()
		synctest.Wait()
		next := <-s.conns
		send(t, ann, &protocol.Hangup{Call: "n1-x"})
		time.Sleep(3 * time.Second) //nolint:forbidigo // of a bubble
		s.conns <- next
		again := s.accept(true)
		again.welcome(`"resume":"r1"`, `,"resumed":true`)
		again.expect(`{"seq":1,"type":"hangup","call":"n1-x","agoMs":3000}`)
		_ = ann.Close()
	})
}

// TestAcknowledgedMessagesAreNotSentAgain, whether by a ping or by the welcome.
func TestAcknowledgedMessagesAreNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		ann, c := welcomed(t, s)
		for i := range 4 {
			send(t, ann, &protocol.Decline{Call: protocol.CallID(fmt.Sprint(i))})
		}
		c.send(`{"type":"ping","ack":1}`)
		synctest.Wait()
		_ = c.conn.Close()
		again := s.accept(true)
		again.welcome(`"resume":"r1"`, `,"resumed":true,"received":2`)
		again.expect(`{"seq":3,"type":"decline","call":"2"}`)
		again.expect(`{"seq":4,"type":"decline","call":"3"}`)
		_ = ann.Close()
	})
}

// TestAMessageThatComesTwiceIsReceivedOnce: a server may send again what the client has.
func TestAMessageThatComesTwiceIsReceivedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann, c := welcomed(t, newFakeServer(t))
		for _, seq := range []int{1, 2, 2, 1, 4, 3} { // numbers may be left out
			c.send(fmt.Sprintf(`{"seq":%d,"type":"ended","call":"%d","reason":"hungup","durationMs":0}`, seq, seq))
		}
		synctest.Wait()
		_ = ann.Close()
		var got []protocol.CallID
		for {
			m, err := ann.Receive(t.Context())
			if err != nil {
				break
			}
			got = append(got, m.(*protocol.Ended).Call) //nolint:forcetypeassert // nothing else is sent
		}
		if want := []protocol.CallID{"1", "2", "4"}; !slices.Equal(got, want) {
			t.Errorf("received %v, want %v", got, want)
		}
	})
}

// TestASlowProgramGetsEverything although no more than some messages wait for it.
func TestASlowProgramGetsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann, c := welcomed(t, newFakeServer(t))
		const messages = 1000
		var written int
		go func() {
			for written < messages {
				written++
				c.send(fmt.Sprintf(`{"seq":%d,"type":"ended","call":"%d","reason":"hungup","durationMs":0}`, written, written))
			}
		}()
		synctest.Wait()
		if written == messages {
			t.Error("the client holds everything that a server sends")
		}
		for i := range messages {
			if ended, err := client.Await[*protocol.Ended](t.Context(), ann); err != nil || ended.Call != protocol.CallID(fmt.Sprint(i+1)) {
				t.Fatalf("got %+v, %v, want message %d", ended, err, i+1)
			}
		}
		_ = ann.Close()
	})
}

// TestWhatCannotBeRead: a message of a newer server is passed over, nonsense ends the client.
func TestWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann, c := welcomed(t, newFakeServer(t))
		c.send(`{"seq":1,"type":"dance"}`)
		c.send(`{"type":"ping","ack":0}`)
		c.expect(`{"type":"pong","ack":1}`)
		c.send(`nonsense`)
		<-ann.Done()
		if refused := (*protocol.Error)(nil); !errors.As(ann.Err(), &refused) || refused.Code != protocol.CodeBadMessage {
			t.Errorf("got %v, want %s", ann.Err(), protocol.CodeBadMessage)
		}
	})
}

// TestCloseWaitsTwoSecondsForTheServer, which answers no close frame here.
func TestCloseWaitsTwoSecondsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(t)
		accepted := make(chan *fakeConn)
		go func() {
			c := s.accept(false)
			go func() {
				buffer := make([]byte, 1<<10)
				for {
					if _, err := c.conn.Read(buffer); err != nil {
						return
					}
				}
			}()
			c.frames <- `{"type":"hello"}`
			c.welcome("", "")
			accepted <- c
		}()
		ann, err := client.Dial(t.Context(), client.Config{
			URL: "http://fake", Hello: guest("Ann"),
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := s.dial(ctx, network, address)
				return halfClosed{conn}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		<-accepted
		began := time.Now()
		_ = ann.Close()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("Close took %v, want 2s", took)
		}
	})
}

// halfClosed is a pipe that can be closed for writing, as a TCP connection can.
type halfClosed struct{ net.Conn }

func (halfClosed) CloseWrite() error { return nil }
