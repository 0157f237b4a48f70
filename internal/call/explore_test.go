package call

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

// world is one state of the exploration: a call, the timers that run for it, and the users who have joined it.
type world struct {
	call  Call
	armed [kinds]bool
	// joined are the users who have joined the call since the server started: by ringing,
	// accepting, or rejoining.
	joined map[protocol.UserID]bool
	// left says that the server is about to restart, and leaves the call to the next one.
	left bool
	// from and by are the state and the input that led here, for the story of a failure.
	from  *world
	by    Input
	depth int
}

func (w *world) story() string {
	if w.from == nil {
		return "ring"
	}
	return w.from.story() + fmt.Sprintf(", %s%s %s", w.by.User.ID, w.by.Session, w.by.Kind)
}

// worldKey has the parts of a world that can change what follows.
type worldKey struct {
	state          State
	reason         protocol.EndReason
	by             protocol.UserID
	caller, callee partyKey
	// Only while it rings does it matter how.
	confirmed, pushed, reloaded bool
	offer, flowed               bool
	early                       string
	answered                    protocol.SessionID
	epoch                       int
	patience                    int64
	armed                       [kinds]bool
	annJoined, bobJoined        bool
}

type partyKey struct {
	session              protocol.SessionID
	hides, address, away bool
	media                protocol.Connection
	held, inline         bool
	former, missed       bool
}

// key returns the key of a world. It leaves out what cannot change what follows: the number and times of candidates,
// how the call rang once it rings no more, and all but the end of a call that has ended.
func (w *world) key() worldKey {
	c := &w.call
	k := worldKey{state: c.state, reason: c.reason, by: c.by, armed: w.armed, annJoined: w.joined["ann"], bobJoined: w.joined["bob"]}
	if c.state == Ended {
		return k
	}
	party := func(s *side) partyKey {
		return partyKey{
			s.session, s.hides, s.address.IsValid(), s.away, s.media.Connection, len(s.held) > 0, len(s.inline) > 0,
			s.former, len(s.missed) > 0,
		}
	}
	k.caller, k.callee = party(&c.caller), party(&c.callee)
	k.confirmed, k.pushed = c.state == Ringing && c.confirmed, c.state == Ringing && c.pushed
	k.reloaded = c.state == Looking && c.reloaded
	k.offer, k.flowed, k.early = c.offer != nil, c.flowed, fmt.Sprint(c.early)
	k.answered, k.epoch, k.patience = c.answered, c.epoch, c.patience
	return k
}

func (w *world) clone() *world {
	next := &world{call: w.call, armed: w.armed, joined: maps.Clone(w.joined), from: w, depth: w.depth + 1}
	c := &next.call
	c.early = slices.Clone(c.early)
	for _, s := range []*side{&c.caller, &c.callee} {
		s.held, s.inline, s.missed = slices.Clone(s.held), slices.Clone(s.inline), slices.Clone(s.missed)
		s.candidates = 0 // the bound has a test of its own
	}
	return next
}

// hidden is an address that nobody may see before accept.
const hidden = "192.168.1.7"

// everything returns the inputs that two devices of each party, a stranger and the timers can cause at any
// moment. A lost message is a step that is missing, a duplicate is a step that is there twice, and a late or
// re-ordered message is a step at another place.
func everything() []Input {
	var all []Input
	for _, session := range []string{"a1", "a2", "b1", "b2", "x1"} {
		for k := range PushTaken {
			in := by(session, k)
			switch k {
			case Confirm:
				early := in
				early.Message = &protocol.Ringing{Call: "n1-c", Early: true}
				all = append(all, early)
			case Offer, Answer:
				for epoch := range 2 {
					in.Message = &protocol.Answer{Call: "n1-c", Epoch: epoch}
					if k == Offer {
						in.Message = &protocol.Offer{Call: "n1-c", Epoch: epoch, Description: protocol.Description{
							SDP: "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 1\r\na=candidate:1 1 udp 1 " + hidden + " 5 typ host\r\n",
						}}
					}
					all = append(all, in)
				}
				continue
			case Media:
				in.Message = &protocol.Media{Call: "n1-c", Connection: protocol.Reconnecting}
				all = append(all, in)
				in = by(session, k)
			case Leave:
				all = append(all, in)
				in.Next = "n1-d"
			case Migrate:
				in.dial = dial{ID: "n1-c", Caller: in.Origin}
			}
			all = append(all, in)
		}
	}
	for _, user := range []protocol.UserID{"ann", "bob", "eve"} { // a device that was pushed has no session
		all = append(all, Input{Kind: Confirm, Origin: originOf(user)}, Input{Kind: Decline, Origin: originOf(user)})
	}
	for k := PushTaken; int(k) < kinds; k++ {
		if k != Found {
			all = append(all, Input{Kind: k})
		}
	}
	for _, found := range []callee{{}, {refused: protocol.ReasonBusy}, {crossed: true}} {
		found.user.ID = "bob"
		all = append(all, Input{Kind: Found, found: found})
	}
	return all
}

// TestEveryReachableState takes every input in every state that can be reached, and
// checks the invariants after each step: among them that at most one session accepts, that
// Ended is final, and that a call has one record.
func TestEveryReachableState(t *testing.T) {
	states, steps, depth := explore(t)
	t.Logf("%d states, %d steps, the farthest %d steps from the ring, or from the start of a server that takes it up", states, steps, depth)
	if states < 1000 {
		t.Errorf("only %d states: the exploration does not reach what it should", states)
	}
}

// TestTheExplorationFindsWhatIsPlanted plants the faults that once opened somebody's
// camera, and others, and expects the exploration to fail.
func TestTheExplorationFindsWhatIsPlanted(t *testing.T) {
	for name, planted := range map[string]struct {
		state State
		kind  Kind
		step  func(*Call, Input, time.Time) []Output
	}{
		"a ticket revives an ended call": {Ended, Rejoin, func(c *Call, in Input, now time.Time) []Output {
			c.state = Active
			return c.rejoin(in, now)
		}},
		"an ended call is told as active": {Ended, Rejoin, func(c *Call, in Input, now time.Time) []Output {
			return []Output{Send{in.Session, &protocol.Rejoin{Call: c.ID, Active: true}}}
		}},
		"one who comes back brings the other one": {Active, Rejoin, func(c *Call, in Input, now time.Time) []Output {
			return append(c.rejoin(in, now), SendUser{User: c.other(in).user.ID, Message: c.rejoinMessage(c.other(in), now)})
		}},
		"a ticket accepts a call that rings": {Ringing, Rejoin, func(c *Call, in Input, now time.Time) []Output {
			c.state = Active
			return c.rejoin(in, now)
		}},
		"ringing again brings back a party that has not come back": {Active, Migrate, func(c *Call, in Input, now time.Time) []Output {
			next, begun := goingOn(c.other(in), in.dial, now)
			c.next = next.ID
			return append(c.end(protocol.ReasonMigrated, in.User.ID, now), GoOn{next, begun})
		}},
		"ringing again leaves the old call as it is": {Active, Migrate, func(c *Call, in Input, now time.Time) []Output {
			next, begun := goingOn(c.other(in), in.dial, now)
			return []Output{GoOn{next, begun}}
		}},
		"a party that comes back hides no more": {Active, Rejoin, func(c *Call, in Input, now time.Time) []Output {
			out := c.rejoin(in, now)
			c.mine(in).hides = false
			return out
		}},
		"a device that hides accepts, and shows its addresses": {Ringing, Accept, func(c *Call, in Input, now time.Time) []Output {
			out := c.accept(in, now)
			c.callee.hides = false
			return out
		}},
		"who leaves a call leaves no record": {Active, Leave, func(c *Call, _ Input, _ time.Time) []Output {
			c.state = Ended
			return stopTimers()
		}},
		"the callee leaves a call that they are not in": {Ringing, Leave, func(c *Call, in Input, now time.Time) []Output {
			return c.end(protocol.ReasonCanceled, in.User.ID, now)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			whole := table[planted.state]
			defer func() { table[planted.state] = whole }()
			changed := whole
			changed[planted.kind].step = planted.step
			table[planted.state] = changed
			found := &firstFailure{}
			func() {
				defer func() {
					if p := recover(); p != nil && p != found { //nolint:errorlint // it is the very one
						panic(p)
					}
				}()
				explore(found)
			}()
			if found.what == "" {
				t.Error("the exploration finds nothing wrong")
			}
			t.Log(found.what)
		})
	}
}

// firstFailure is a test that ends with its first failure, by a panic with itself.
type firstFailure struct{ what string }

func (f *firstFailure) Helper()        {}
func (f *firstFailure) Failed() bool   { return f.what != "" }
func (f *firstFailure) Error(a ...any) { f.what = fmt.Sprint(a...); panic(f) }
func (f *firstFailure) Fatal(a ...any) { f.Error(a...) }
func (f *firstFailure) Errorf(format string, a ...any) {
	f.what = fmt.Sprintf(format, a...)
	panic(f)
}
func (f *firstFailure) Fatalf(format string, a ...any) { f.Errorf(format, a...) }

// explore goes from a call that begins, and from one of an earlier run of the server,
// to every state that can be reached. It counts states and steps.
func explore(t failer) (states, steps, depth int) {
	first := &world{joined: map[protocol.UserID]bool{"ann": true}}
	c, out := looking()
	first.call = *c
	first.take(t, Looking, out)
	restored := &world{joined: map[protocol.UserID]bool{}}
	c, out = restore(ticket{
		Call: "n1-c", Caller: ticketParty{User: "ann"}, Callee: ticketParty{User: "bob"},
	}, c.rules)
	restored.call = *c
	restored.take(t, Active, out)
	queue := []*world{first, restored}
	seen := map[worldKey]bool{first.key(): true, restored.key(): true}
	inputs := everything()
	for len(queue) > 0 {
		w := queue[0]
		queue = queue[1:]
		depth = max(depth, w.depth)
		for _, in := range inputs {
			if in.Kind >= PushTimeout && !w.armed[in.Kind] {
				continue
			}
			next := w.clone()
			next.by, next.left = in, in.Kind == Restart
			if in.Kind >= PushTimeout {
				next.armed[in.Kind] = false
			}
			before := w.call
			in.dial.rules = before.rules
			out := next.call.Step(in, start.Add(time.Second))
			steps++
			next.noteJoin(in, before.state)
			next.take(t, before.state, out)
			next.hold(t, in, &before)
			next.holdPushes(t, before.state, out)
			if t.Failed() {
				t.Fatalf("after: %s", next.story())
			}
			var reached []*world
			if !next.left { // the next server takes it up, as the exploration does at first
				reached = append(reached, next)
			}
			if on := next.goesOn(t, in, out); on != nil {
				reached = append(reached, on)
			}
			for _, w := range reached {
				if k := w.key(); !seen[k] {
					seen[k] = true
					queue = append(queue, w)
				}
			}
		}
	}
	return len(seen), steps, depth
}

// goesOn returns the call that an input migrated the call to, or nil.
// Users who had joined the old call have joined the new one, and so has the user who rang again.
func (w *world) goesOn(t failer, in Input, out []Output) *world {
	for _, o := range out {
		on, ok := o.(GoOn)
		if !ok {
			continue
		}
		before := w.from.call
		switch {
		case w.call.state != Ended || w.call.next != on.Call.ID:
			t.Errorf("a call goes on as %s, and is %s, with %q next", on.Call.ID, w.call.state, w.call.next)
		case before.state != Active || before.mine(in).former || before.other(in).former:
			t.Errorf("a call goes on that is %s, or to which a party has not come back", before.state)
		case on.Call.other(in).user.ID != before.other(in).user.ID:
			t.Error("a call goes on with somebody else")
		}
		next := &world{call: *on.Call, joined: maps.Clone(w.joined), from: w, by: Input{Kind: Migrate}, depth: w.depth}
		next.joined[in.User.ID] = true
		next.take(t, Active, on.Outputs)
		next.hold(t, Input{Kind: Migrate}, on.Call)
		return next
	}
	return nil
}

// noteJoin notes the user who has joined the call by an input.
func (w *world) noteJoin(in Input, before State) {
	caller, callee := w.call.Parties()
	accepts := before == Ringing && in.User.ID == callee && (in.Kind == Accept || in.Kind == Merge)
	returns := before != Ended && in.Kind == Rejoin && (in.User.ID == caller || in.User.ID == callee)
	if accepts || returns && (in.User.ID == caller || before == Active) {
		w.joined[in.User.ID] = true
	}
}

// opensDevices reports whether a page that receives a message opens camera and microphone
// for it, or sends what it has captured.
func opensDevices(m protocol.Message) bool {
	switch m := m.(type) {
	case *protocol.Accept, *protocol.Merged:
		return true
	case *protocol.Rejoin:
		return m.Active
	}
	return false
}

// holdDevices checks that no path leads from an ended or never accepted call to media:
// a user receives a message that opens their devices only in an active call that they have joined.
func (w *world) holdDevices(t failer, user protocol.UserID, m protocol.Message) {
	t.Helper()
	switch {
	case !opensDevices(m):
	case w.call.state != Active:
		t.Errorf("%s hears %s of a call that is %s", user, m.Type(), w.call.state)
	case !w.joined[user]:
		t.Errorf("%s, who has not come to the call, hears %s", user, m.Type())
	}
}

// userOfSession is whose a session of [everything] is.
func userOfSession(s protocol.SessionID) protocol.UserID {
	return map[byte]protocol.UserID{'a': "ann", 'b': "bob", 'x': "eve"}[s[0]]
}

// pushes are the states that the callee's devices are told.
func pushes(out []Output) []protocol.PushState {
	var all []protocol.PushState
	for _, o := range out {
		if p, ok := o.(Push); ok && p.User == "bob" {
			all = append(all, p.Message.State)
		}
	}
	return all
}

// holdPushes checks that devices are told once what became of a call that rang, and
// nothing after that.
func (w *world) holdPushes(t failer, before State, out []Output) {
	t.Helper()
	var want []protocol.PushState
	switch c := &w.call; before {
	case Looking:
		if c.state == Ringing {
			want = []protocol.PushState{protocol.PushRinging}
		}
	case Ringing:
		switch {
		case c.state == Active, c.state == Ended && c.reason == protocol.ReasonDeclined:
			want = []protocol.PushState{protocol.PushElsewhere}
		case c.state == Ended && slices.Contains(missed, c.reason):
			want = []protocol.PushState{protocol.PushMissed}
		case c.state == Ended:
			want = []protocol.PushState{protocol.PushEnded}
		case w.by.Kind == PushTimeout, w.by.Kind == PageHidden && w.by.User.ID == "bob":
			want = []protocol.PushState{protocol.PushRinging}
		}
	}
	if got := pushes(out); !slices.Equal(got, want) {
		t.Errorf("%s → %s (%s): pushed %v, want %v", before, w.call.state, w.call.reason, got, want)
	}
}

// missed are the ends of a call that the callee has missed, of those that the exploration reaches.
var missed = []protocol.EndReason{protocol.ReasonCanceled, protocol.ReasonUnanswered, protocol.ReasonUnreachable}

// failer is a test of any kind: testing.T, or a random run's.
type failer interface {
	Helper()
	Failed() bool
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// take does what a step wants and checks what it sends.
func (w *world) take(t failer, before State, out []Output) {
	finished, dropped := 0, false
	var permitted protocol.UserID // by the output before
	for _, o := range out {
		switch o := o.(type) {
		case SetTimer:
			w.armed[o.Kind] = true
		case StopTimer:
			w.armed[o.Kind] = false
		case Finish:
			finished++
		case Drop:
			dropped = true
		case SendUser:
			w.holdDevices(t, o.User, o.Message)
		case Send:
			if o.Session != "" { // a device that was pushed has none
				w.holdDevices(t, userOfSession(o.Session), o.Message)
			}
			if refused, ok := o.Message.(*protocol.Error); dropped && (!ok || refused.Ref == "" || o.Session != w.call.caller.session) {
				t.Errorf("%s hears %s of a call that nobody has heard of", o.Session, o.Message.Type())
			}
			if o.Message.Type() == "ended" && before != Ended && finished == 0 {
				t.Errorf("%s hears of the end before it is recorded", o.Session)
			}
			if strings.HasPrefix(string(o.Session), "x") {
				if e, ok := o.Message.(*protocol.Error); !ok || e.Code != protocol.CodeUnknownCall {
					t.Errorf("a stranger is told %s", o.Message.Type())
				}
			}
			w.holdAddresses(t, o, permitted)
		case Permit:
			permitted = o.Party
			source := sources[o.Party]
			if party := w.party(o.Party); slices.Contains(o.Addresses, source) && (w.call.state < Active || alwaysRelays(party.session)) {
				t.Errorf("the relay permits the address that %s hides", o.Party)
			}
		}
	}
	want := 0
	if before != Ended && w.call.state == Ended && !dropped {
		want = 1
	}
	if finished != want || dropped && before != Looking {
		t.Errorf("%s → %s with %d records, dropped: %v", before, w.call.state, finished, dropped)
	}
}

// party is the side of a user of the call.
func (w *world) party(id protocol.UserID) *side {
	if id == w.call.caller.user.ID {
		return &w.call.caller
	}
	return &w.call.callee
}

// holdAddresses checks that nobody sees an address before accept, nor one of a party that hides
// it, and that the relay permits what is shown first.
func (w *world) holdAddresses(t failer, o Send, permitted protocol.UserID) {
	t.Helper()
	if !shows(o.Message, hidden) {
		return
	}
	from := w.call.senderTo(o.Session)
	switch {
	case w.call.state < Active:
		t.Errorf("%s sees an address before accept: %s", o.Session, o.Message.Type())
	case alwaysRelays(from.session):
		t.Errorf("%s sees an address that %s hides: %s", o.Session, from.user.ID, o.Message.Type())
	case permitted != from.user.ID:
		t.Errorf("%s sees an address of %s that the relay does not permit: %s", o.Session, from.user.ID, o.Message.Type())
	}
}

// shows reports whether a message has an address in it.
func shows(m protocol.Message, address string) bool {
	switch m := m.(type) {
	case *protocol.Offer:
		return strings.Contains(m.Description.SDP, address)
	case *protocol.Answer:
		return strings.Contains(m.Description.SDP, address)
	case *protocol.Candidates:
		return slices.ContainsFunc(m.Candidates, func(c protocol.Candidate) bool { return strings.Contains(c.Candidate, address) })
	}
	return false
}

// hold checks what must hold between one state and the next.
func (w *world) hold(t failer, in Input, before *Call) {
	t.Helper()
	c := &w.call
	caller, callee := c.Parties()
	stranger := in.User.ID != "" && in.User.ID != caller && in.User.ID != callee
	switch {
	case before.state == Ended && c.state != Ended:
		t.Error("Ended is not final")
	case c.state < before.state:
		t.Errorf("a call that was %s is %s", before.state, c.state)
	case stranger && (c.state != before.state || c.caller.session != before.caller.session || c.callee.session != before.callee.session):
		t.Error("a stranger changed the call")
	case before.callee.session != "" && c.callee.session != before.callee.session && in.Kind != Rejoin:
		t.Error("a second session accepted")
	case (c.caller.missed != nil && !c.caller.former) || (c.callee.missed != nil && !c.callee.former):
		t.Error("what is kept for a party that is back")
	case c.reason == protocol.ReasonCanceled && c.by != "" && c.by != caller:
		t.Errorf("canceled by %q", c.by)
	case before.state == Ringing && c.state == Active && (in.User.ID != callee || in.Kind != Accept && in.Kind != Merge):
		t.Errorf("accepted by %q with %s", in.User.ID, in.Kind)
	}
	// A call that lives always has a timer or a person that ends it.
	switch {
	case c.state == Ended:
		if slices.Contains(w.armed[:], true) {
			t.Error("a timer runs for a call that has ended")
		}
	case w.left: // it is the next server's
	case c.state == Looking: // the look-up ends, and has an answer
		if c.caller.away != w.armed[CallerTimeout] {
			t.Errorf("caller away: %v, its timer: %v", c.caller.away, w.armed[CallerTimeout])
		}
	case c.state == Ringing:
		if !w.armed[RingTimeout] {
			t.Error("it rings for ever")
		}
		if waits := !c.confirmed && !c.pushed; waits != w.armed[UnreachableTimeout] {
			t.Errorf("it waits for a device: %v, its timer: %v", waits, w.armed[UnreachableTimeout])
		}
		if c.caller.away != w.armed[CallerTimeout] {
			t.Errorf("caller away: %v, its timer: %v", c.caller.away, w.armed[CallerTimeout])
		}
	default:
		if c.caller.away != w.armed[CallerLostTimeout] || c.callee.away != w.armed[CalleeLostTimeout] {
			t.Errorf("away: %v %v, their timers: %v %v", c.caller.away, c.callee.away, w.armed[CallerLostTimeout], w.armed[CalleeLostTimeout])
		}
		if !c.flowed != w.armed[ConnectTimeout] {
			t.Errorf("media flowed: %v, connect timer: %v", c.flowed, w.armed[ConnectTimeout])
		}
		here := !c.caller.away && !c.callee.away
		flows := c.caller.connected() && c.callee.connected()
		if want := c.flowed && here && !flows; want != w.armed[MediaTimeout] {
			t.Errorf("media is away with both here: %v, its timer: %v", want, w.armed[MediaTimeout])
		}
	}
}
