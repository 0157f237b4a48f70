package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/visavis/visavis/client"
	"github.com/visavis/visavis/protocol"
)

// One program has both ends of a call here: Ann rings Bob, waits until he accepts, and hangs up. A real one would also
// exchange descriptions and candidates (PROTOCOL.md, section 4), so that media flows.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	bob, err := client.Dial(ctx, client.Config{URL: serverURL, Hello: protocol.Hello{Name: "Bob the bot"}})
	if err != nil {
		log.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { answered <- answer(ctx, bob) }()

	ann, err := client.Dial(ctx, client.Config{URL: serverURL, Hello: protocol.Hello{Name: "Ann the bot"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := call(ctx, ann, bob.Welcome().User.ID); err != nil {
		log.Fatal(err)
	}
	if err := <-answered; err != nil {
		log.Fatal(err)
	}
	_, _ = ann.Close(), bob.Close()
	// Output:
	// calling Bob the bot
	// it rings
	// accepted
	// ended: hungup
}

// call rings a user, waits until they accept, and hangs up. If they do not accept, it returns when ctx ends.
func call(ctx context.Context, c *client.Client, to protocol.UserID) error {
	if err := c.Send(&protocol.Ring{Ref: "1", To: to}); err != nil {
		return err
	}
	calling, err := client.Await[*protocol.Calling](ctx, c)
	if err != nil {
		return err // such as rate_limited
	}
	fmt.Println("calling", calling.To.Name)
	if _, err := client.Await[*protocol.Ringing](ctx, c); err != nil {
		return err
	}
	fmt.Println("it rings")
	if _, err := client.Await[*protocol.Accept](ctx, c); err != nil {
		return err
	}
	fmt.Println("accepted")
	if err := c.Send(&protocol.Hangup{Call: calling.Call}); err != nil {
		return err
	}
	ended, err := client.Await[*protocol.Ended](ctx, c)
	if err != nil {
		return err
	}
	fmt.Println("ended:", ended.Reason)
	return nil
}

// answer accepts the next call and waits for its end.
func answer(ctx context.Context, c *client.Client) error {
	ring, err := client.Await[*protocol.Ring](ctx, c)
	if err != nil {
		return err
	}
	for _, m := range []protocol.Message{
		&protocol.Ringing{Call: ring.Call}, // a device that rings says so
		&protocol.Accept{Call: ring.Call},
	} {
		if err := c.Send(m); err != nil {
			return err
		}
	}
	_, err = client.Await[*protocol.Ended](ctx, c)
	return err
}
