package socketio

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/internal/account"
	"github.com/visavis/visavis/protocol"
)

func TestAClientThatDoesNotReadIsGone(t *testing.T) {
	c := bareConnection(t)
	for range maxPackets + 1 {
		c.put(engineMessage)
	}
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		t.Error("the connection stands")
	}
}

// Each of few packets may be long.
func TestAClientThatDoesNotReadIsGoneByBytes(t *testing.T) {
	c := bareConnection(t)
	long := engineMessage + strings.Repeat("x", 64<<10)
	for range slowBytes / len(long) {
		c.put(long)
	}
	if err := c.waitForRoom(); err != nil {
		t.Fatalf("no room within bounds: %v", err)
	}
	c.put(long)
	room := make(chan error)
	go func() { room <- c.waitForRoom() }()
	select {
	case err := <-room:
		t.Fatalf("there is room: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	c.take(true, nil)
	if err := <-room; err != nil {
		t.Fatal(err)
	}
	list := usersPacket + strings.Repeat("x", 2*maxBytes)
	for range 3 {
		c.put(list) // however many people are here
	}
	for range maxBytes / len(long) {
		c.put(long)
	}
	select {
	case <-c.done:
		t.Fatal("the connection is gone within its bound")
	case <-time.After(10 * time.Millisecond):
	}
	c.put(long)
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		t.Error("the connection stands")
	}
}

// The next connection of a client that did not read is not lost for what the last one left.
func TestWhatAClientDidNotReadWaitsForItsNextConnection(t *testing.T) {
	s, c := entered(t)
	c.take(true, nil)
	packet := engineMessage + strings.Repeat("x", 1<<10)
	for range maxPackets + 1 { // the last ones may come too late
		c.put(packet)
	}
	<-c.done
	again := bareConnection(t)
	again.server = c.server
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) {
		s.mu.Lock()
		left := s.connection == nil
		s.mu.Unlock()
		if left {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the session has not noticed")
		}
	}
	if refused := s.attach(again, account.Visitor{User: protocol.User{ID: "u1", Name: "Ann"}}); refused != nil {
		t.Fatal(refused)
	}
	// Some of the packets that were too many are the hub's own.
	const own = 8
	for got := 0; got <= maxPackets-own; {
		packets := again.take(true, t.Context().Done())
		if slices.Contains(packets, engineClose) {
			t.Fatal("the next connection is gone")
		}
		got += len(messages(packets))
	}
}

func TestTheHubWaitsForAClientThatReadsSlowly(t *testing.T) {
	c := bareConnection(t)
	for range slowPackets {
		c.put(engineMessage)
	}
	room := make(chan error)
	go func() { room <- c.waitForRoom() }()
	select {
	case err := <-room:
		t.Fatalf("there is room: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	c.take(true, nil)
	if err := <-room; err != nil {
		t.Error(err)
	}
}

func TestOfListsOfUsersOnlyTheLastWaits(t *testing.T) {
	c := bareConnection(t)
	for _, list := range []string{"[1]", "[2]", "[3]"} {
		c.put(encodePacket(packetEvent, "", []any{"users", list}), encodePacket(packetEvent, "", []any{"ring", list}))
	}
	got := strings.Join(c.take(true, nil), " ")
	want := `42["ring","[1]"] 42["ring","[2]"] 42["users","[3]"] 42["ring","[3]"]`
	if got != want {
		t.Errorf("waiting: %s, want %s", got, want)
	}
}

// Packets that a connection did not take wait for the next one.
func TestWhatWasNotSentIsKept(t *testing.T) {
	s, c := entered(t)
	c.put(enginePing, engineMessage+"first", engineMessage+"second")
	c.end(protocol.CloseSilent, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	got := strings.Join(s.waiting, " ")
	if !strings.Contains(got, "4first 4second") || strings.Contains(got, " "+enginePing+" ") {
		t.Errorf("kept: %s", got)
	}
}
