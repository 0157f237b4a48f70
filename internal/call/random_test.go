package call

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/visavis/visavis/protocol"
)

// browser is a page of [clients]. It answers the messages that it receives as the SDK does. Its user acts at
// random.
type browser struct {
	session protocol.SessionID
	online  bool
	rings   int
	// sent are messages on their way to the server, heard those on their way to the page.
	sent, heard []protocol.Message
	tickets     map[protocol.CallID]string
}

func (b *browser) user() protocol.UserID { return userOf(b.session) }

func (b *browser) send(m protocol.Message) { b.sent = append(b.sent, m) }

// offer sends an offer and candidates that show an address.
func (b *browser) offer(id protocol.CallID, epoch int) {
	b.send(&protocol.Offer{Call: id, Epoch: epoch, Description: showing("offer")})
	b.candidates(id, epoch)
}

func (b *browser) candidates(id protocol.CallID, epoch int) {
	b.send(&protocol.Candidates{Call: id, Epoch: epoch, Candidates: []protocol.Candidate{
		{Candidate: "candidate:1 1 udp 1 192.0.2.9 50000 typ relay raddr 0.0.0.0 rport 0"},
		{Candidate: "candidate:2 1 udp 2 " + hidden + " 50001 typ host"},
	}})
}

func (b *browser) media(id protocol.CallID, c protocol.Connection) {
	b.send(&protocol.Media{Call: id, Connection: c, Audio: true})
}

func showing(kind string) protocol.Description {
	return protocol.Description{Type: kind, SDP: "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 1\r\na=candidate:1 1 udp 1 " + hidden + " 5 typ host\r\n"}
}

// hear does what the SDK does when it receives a message.
func (b *browser) hear(m protocol.Message) {
	switch m := m.(type) {
	case *protocol.Ring:
		b.send(&protocol.Ringing{Call: m.Call, Early: m.Early && !strings.HasSuffix(string(b.session), "2")})
	case *protocol.Calling:
		b.offer(m.Call, 0)
	case *protocol.Accept:
		b.tickets[m.Call] = m.Ticket
		b.media(m.Call, protocol.Connected)
	case *protocol.Merged:
		b.tickets[m.Call] = m.Ticket
		b.media(m.Call, protocol.Connected)
	case *protocol.Rejoin:
		b.offer(m.Call, m.Epoch+1)
		if m.Active {
			b.tickets[m.Call] = m.Ticket
			b.media(m.Call, protocol.Connected)
		}
	case *protocol.Offer:
		b.send(&protocol.Answer{Call: m.Call, Epoch: m.Epoch, Description: showing("answer")})
		b.candidates(m.Call, m.Epoch)
	case *protocol.Ended:
		delete(b.tickets, m.Call)
	case *protocol.Error:
		if sealed := b.tickets[m.Call]; m.Code == protocol.CodeUnavailable && sealed != "" {
			b.send(&protocol.Rejoin{Call: m.Call, Ticket: sealed})
		}
	}
}

// clients are pages of users who call each other over a bad network, by a switchboard whose state is checked
// after each step.
type clients struct {
	*fakeHub
	t        *rapid.T
	browsers []*browser
	sent     []Send // by the server, in the last step; guarded by fakeRouter.mu
	// keys are the push keys of all calls so far; guarded by fakeRouter.mu.
	keys map[protocol.CallID]string
	// calls are the ids of all calls so far.
	calls []protocol.CallID
	// opened counts the sessions of each user.
	opened map[protocol.UserID]int
	// last is the input of the current step; before are the calls as they were before it.
	last   Input
	before map[protocol.CallID]Call
	// forgotten are calls that a restarted server did not restore.
	forgotten map[protocol.CallID]bool
	// over are the calls that have ended in any run of the server. joined are the users of each
	// call who have joined it by an act of theirs since the current run began.
	over   map[protocol.CallID]bool
	joined map[protocol.CallID]map[protocol.UserID]bool
	// old are all tickets so far, as a dishonest client would keep them.
	old []oldTicket
}

type oldTicket struct {
	id     protocol.CallID
	sealed string
}

func newClients(t *rapid.T) *clients {
	c := &clients{
		fakeHub: &fakeHub{early: true, ringsPerMinute: 10_000}, t: t,
		keys: map[protocol.CallID]string{}, opened: map[protocol.UserID]int{}, before: map[protocol.CallID]Call{}, forgotten: map[protocol.CallID]bool{},
		over: map[protocol.CallID]bool{}, joined: map[protocol.CallID]map[protocol.UserID]bool{},
	}
	c.pusher, c.devices = c, c
	c.knows = func(_, other protocol.UserID) bool { return other != "cy" }
	c.onSend = func(s protocol.SessionID, m protocol.Message) { c.sent = append(c.sent, Send{s, m}) }
	c.restart(t, "secret")
	for _, user := range []protocol.UserID{"ann", "ann", "bob", "bob", "cy"} {
		b := &browser{tickets: map[protocol.CallID]string{}}
		c.browsers = append(c.browsers, b)
		c.enter(b, user)
	}
	return c
}

// Reachable implements [account.Devices]: di has a phone and never a page open.
func (c *clients) Reachable(user protocol.UserID) (protocol.User, bool, bool) {
	return protocol.User{ID: user, Name: "Di"}, false, user == "di"
}

// Push implements [Pusher].
func (c *clients) Push(user protocol.UserID, m *protocol.Push, _ ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if user == "di" && m.From.ID == "cy" {
		c.t.Error("di is rung by somebody whom they do not know")
	}
	if m.State == protocol.PushRinging {
		c.keys[m.Call] = m.Key
	}
}

// collect checks what the server has sent, and puts it on its way to the pages.
func (c *clients) collect() {
	c.mu.Lock()
	sent := c.sent
	c.sent = nil
	c.mu.Unlock()
	for _, o := range sent {
		if c.last.Kind != ConnectionBack { // messages that were kept for the session are older
			c.holdDevices(o)
		}
		if shows(o.Message, hidden) && c.isRinging(callOf(o.Message)) {
			c.t.Errorf("%s sees an address before accept: %s", o.Session, o.Message.Type())
		}
		if calling, ok := o.Message.(*protocol.Calling); ok && !slices.Contains(c.calls, calling.Call) {
			c.calls = append(c.calls, calling.Call)
		}
		for _, b := range c.browsers {
			if b.session == o.Session {
				b.heard = append(b.heard, o.Message)
			}
		}
	}
}

// noteJoin notes that a user has joined a call by an act of theirs.
func (c *clients) noteJoin(user protocol.UserID, id protocol.CallID) {
	if c.joined[id] == nil {
		c.joined[id] = map[protocol.UserID]bool{}
	}
	c.joined[id][user] = true
}

// holdDevices checks that no path leads from an ended or never accepted call to media. A message that opens the
// camera and microphone of a page must be of a call that no server has reported as ended, and must go to a user
// who has joined it.
func (c *clients) holdDevices(o Send) {
	user := userOf(o.Session)
	var id protocol.CallID
	switch m := o.Message.(type) {
	case *protocol.Ended:
		c.over[m.Call] = true
		return
	case *protocol.Calling:
		c.noteJoin(user, m.Call)
		return
	case *protocol.Accept:
		id = m.Call
		if !slices.ContainsFunc(c.old, func(t oldTicket) bool { return t.id == id }) {
			c.old = append(c.old, oldTicket{id, m.Ticket})
		}
	case *protocol.Merged:
		id = m.Call
		if c.last.User.ID == user { // by their own ring
			c.noteJoin(user, id)
		}
	case *protocol.Rejoin:
		id = m.Call
		if c.joinedBefore(user, id) {
			c.noteJoin(user, id)
		}
	}
	switch {
	case !opensDevices(o.Message):
	case c.over[id]:
		c.t.Errorf("%s hears %s of call %s, which has ended", o.Session, o.Message.Type(), id)
	case !c.joined[id][user]:
		c.t.Errorf("%s hears %s of call %s, to which they have not come", o.Session, o.Message.Type(), id)
	}
}

// joinedBefore reports whether a user has joined a call, or one that was migrated to it. After several migrations a
// page that was away hears of the last call only.
func (c *clients) joinedBefore(user protocol.UserID, id protocol.CallID) bool {
	if c.joined[id][user] {
		return true
	}
	for before := range c.before {
		if old := c.stateOf(before); old != nil && old.next == id && c.joinedBefore(user, before) {
			return true
		}
	}
	return false
}

func (c *clients) isRinging(id protocol.CallID) bool {
	c.board.mu.Lock()
	defer c.board.mu.Unlock()
	live := c.board.calls[id]
	return live != nil && live.state == Ringing
}

func callOf(m protocol.Message) protocol.CallID {
	_, id, _ := kindOf(m)
	return id
}

// enter gives a page a new session of a user.
func (c *clients) enter(b *browser, user protocol.UserID) {
	c.opened[user]++
	*b = browser{session: protocol.SessionID(fmt.Sprint(user, c.opened[user])), online: true, tickets: b.tickets}
	c.happens(c.t, transcriptStep{Session: b.session, Happens: "opens"})
}

// someone draws a page for which a condition holds.
func (c *clients) someone(t *rapid.T, who func(*browser) bool) *browser {
	them := map[protocol.SessionID]*browser{}
	var names []protocol.SessionID
	for _, b := range c.browsers {
		if who(b) {
			them[b.session] = b
			names = append(names, b.session)
		}
	}
	if len(names) == 0 {
		t.Skip("there is nobody")
	}
	return them[rapid.SampledFrom(names).Draw(t, "page")]
}

func online(b *browser) bool { return b.online }

func (c *clients) anyCall(t *rapid.T) protocol.CallID {
	if len(c.calls) == 0 {
		t.Skip("there is no call")
	}
	return c.calls[len(c.calls)-1-rapid.IntRange(0, min(len(c.calls), 4)-1).Draw(t, "calls ago")]
}

// deliver hands a message of a page to the server, and checks what the server does.
func (c *clients) deliver(b *browser, m protocol.Message) {
	kind, _, _ := kindOf(m)
	switch m.(type) {
	case *protocol.Ring:
		kind = Merge
	case *protocol.Rejoin:
		kind = Rejoin
	}
	switch m := m.(type) {
	case *protocol.Accept:
		c.noteJoin(b.user(), m.Call)
	case *protocol.Rejoin:
		c.noteJoin(b.user(), m.Call)
	}
	c.step(Input{Kind: kind, Origin: c.at(b.session), Message: m}, func() { c.says(b.session, m) })
}

func (c *clients) event(b *browser, kind Kind, s transcriptStep) {
	s.Session = b.session
	c.step(Input{Kind: kind, Origin: c.at(b.session)}, func() { c.happens(c.t, s) })
}

// step does something to the switchboard and checks the invariants.
func (c *clients) step(in Input, do func()) {
	c.last = in
	do()
	synctest.Wait()
	c.noteRings()
	c.collect()
	c.check()
}

// noteRings notes the users who have joined a call by ringing: the call that the ring began, or one that crossed it
// while the callee was looked up.
func (c *clients) noteRings() {
	c.board.mu.Lock()
	defer c.board.mu.Unlock()
	for id, live := range c.board.calls {
		if live.state < Active { // a call of an earlier server is active
			c.noteJoin(live.caller.user.ID, id)
		}
		for before, own := range c.before {
			if own.state == Looking && c.board.calls[before] == nil &&
				own.caller.user.ID == live.callee.user.ID && own.callee.user.ID == live.caller.user.ID {
				c.noteJoin(own.caller.user.ID, id)
			}
		}
	}
	maps.DeleteFunc(c.before, func(id protocol.CallID, own Call) bool { return own.state == Looking && c.board.calls[id] == nil })
}

// allArrives delivers all messages, as a good network does.
func (c *clients) allArrives() {
	for range 50 {
		quiet := true
		for _, b := range c.browsers {
			heard := b.heard
			b.heard = nil
			for _, m := range heard {
				quiet = false
				b.hear(m)
			}
			for b.online && len(b.sent) > 0 {
				quiet = false
				m := b.sent[0]
				b.sent = b.sent[1:]
				c.deliver(b, m)
			}
		}
		if quiet {
			return
		}
	}
}

// fate is what becomes of one message of a queue: it is taken out, or stays to
// come again; lost ones reach nobody.
func fate(t *rapid.T, queue []protocol.Message) (m protocol.Message, rest []protocol.Message, lost bool) {
	i := rapid.IntRange(0, len(queue)-1).Draw(t, "which")
	m = queue[i]
	how := rapid.SampledFrom([]string{"arrives", "arrives", "arrives", "arrives, and will again", "is lost"}).Draw(t, "fate")
	if how == "arrives, and will again" {
		return m, queue, false
	}
	return m, slices.Delete(slices.Clone(queue), i, i+1), how == "is lost"
}

// actions are what may happen, each with all that is drawn for it.
func (c *clients) actions() map[string]func(*rapid.T) {
	all := map[string]func(*rapid.T){
		"ring": func(t *rapid.T) {
			b := c.someone(t, online)
			to := rapid.SampledFrom([]protocol.UserID{"ann", "bob", "bob", "cy", "di", "nobody"}).Draw(t, "to")
			b.rings++
			b.send(&protocol.Ring{To: to, Ref: fmt.Sprint(b.rings), Video: true, Early: true})
		},
		"answer": func(t *rapid.T) { c.answer(t) },
		"talk": func(t *rapid.T) {
			b := c.someone(t, online)
			b.rings++
			to := rapid.SampledFrom([]protocol.UserID{"ann", "bob"}).Draw(t, "to")
			b.send(&protocol.Ring{To: to, Ref: fmt.Sprint(b.rings)})
			c.allArrives()
			c.answer(t)
			c.allArrives()
		},
		"act": func(t *rapid.T) {
			b, id := c.someone(t, online), c.anyCall(t)
			b.send(c.drawAct(t, id))
		},
		"one message to the server": func(t *rapid.T) {
			b := c.someone(t, func(b *browser) bool { return b.online && len(b.sent) > 0 })
			m, rest, lost := fate(t, b.sent)
			if b.sent = rest; !lost {
				c.deliver(b, m)
			}
		},
		"one message to a page": func(t *rapid.T) {
			b := c.someone(t, func(b *browser) bool { return len(b.heard) > 0 })
			m, rest, lost := fate(t, b.heard)
			if b.heard = rest; !lost {
				b.hear(m)
			}
		},
		"all arrives": func(*rapid.T) { c.allArrives() },
		"time passes": func(t *rapid.T) { c.pass(rapid.SampledFrom([]int{1, 5, 10, 20, 30, 60, 130}).Draw(t, "seconds")) },
		"beacon": func(t *rapid.T) {
			c.deliver(c.someone(t, func(*browser) bool { return true }), &protocol.Hangup{Call: c.anyCall(t)})
		},
		"what prefers": c.prefer,
		"push taken": func(t *rapid.T) {
			id := c.anyCall(t)
			c.step(Input{Kind: PushTaken}, func() { c.board.PushTaken(id) })
		},
		"a pushed device": c.pushedDevice,
		"the database goes, or comes back": func(*rapid.T) {
			c.mu.Lock()
			c.databaseDown = !c.databaseDown
			c.mu.Unlock()
		},
		"an old ticket": func(t *rapid.T) {
			if len(c.old) == 0 {
				t.Skip("there is none")
			}
			b, old := c.someone(t, online), rapid.SampledFrom(c.old).Draw(t, "ticket")
			c.deliver(b, &protocol.Rejoin{Call: old.id, Ticket: old.sealed})
		},
	}
	for name, action := range c.sessionActions() {
		all[name] = action
	}
	return all
}

// pushedDevice is one without a session: it asks, rings or declines, and is told
// how the call stands.
func (c *clients) pushedDevice(t *rapid.T) {
	id := c.anyCall(t)
	act, kind := "ask", RingTimeout // nobody's doing
	switch rapid.IntRange(0, 2).Draw(t, "does") {
	case 1:
		act, kind = "ringing", Confirm
	case 2:
		act, kind = "decline", Decline
	}
	c.mu.Lock()
	key := c.keys[id]
	c.mu.Unlock()
	before := c.before[id]
	_, callee := before.Parties()
	in := Input{Kind: kind}
	if kind != RingTimeout {
		in.Origin = originOf(callee)
	}
	c.step(in, func() {
		m, err := c.board.Pushed(id, key, act)
		switch live := c.stateOf(id); {
		case live == nil || !live.rang || key == "":
			if err == nil || err.Code != protocol.CodeUnknownCall {
				t.Errorf("of a call that nobody knows: %+v, %v", m, err)
			}
		case err != nil || m.State != live.pushState():
			t.Errorf("act %s: %+v, %v, want %s", act, m, err, live.pushState())
		}
	})
}

// stateOf is a call as the switchboard has it, or nil.
func (c *clients) stateOf(id protocol.CallID) *Call {
	c.board.mu.Lock()
	defer c.board.mu.Unlock()
	live := c.board.calls[id]
	if live == nil {
		return nil
	}
	copied := *live.Call
	return &copied
}

// answer is a person who accepts a call that rings.
func (c *clients) answer(t *rapid.T) {
	callees := map[protocol.UserID]protocol.CallID{}
	for _, id := range c.calls {
		if call := c.before[id]; call.rang && call.state == Ringing {
			callees[call.callee.user.ID] = id
		}
	}
	b := c.someone(t, func(b *browser) bool { return b.online && callees[b.user()] != "" })
	b.send(&protocol.Accept{Call: callees[b.user()]})
}

// drawAct is something that a person, or a page that is not to be trusted, may
// say of a call.
func (c *clients) drawAct(t *rapid.T, id protocol.CallID) protocol.Message {
	epoch := rapid.IntRange(0, 2).Draw(t, "epoch")
	acts := []protocol.Message{
		&protocol.Accept{Call: id}, &protocol.Accept{Call: id}, &protocol.Accept{Call: id},
		&protocol.Decline{Call: id}, &protocol.Hangup{Call: id}, &protocol.Hangup{Call: id, AgoMs: 20_000},
		&protocol.Ringing{Call: id}, &protocol.Ringing{Call: id, Early: true},
		&protocol.Offer{Call: id, Epoch: epoch, Description: showing("offer")},
		&protocol.Answer{Call: id, Epoch: epoch, Description: showing("answer")},
		&protocol.Media{Call: id, Connection: protocol.Connected}, &protocol.Media{Call: id, Connection: protocol.Reconnecting},
		&protocol.Rejoin{Call: id, Ticket: "forged"},
	}
	for _, b := range c.browsers {
		if sealed := b.tickets[id]; sealed != "" {
			acts = append(acts, &protocol.Rejoin{Call: id, Ticket: sealed})
			break
		}
	}
	i := rapid.IntRange(0, len(acts)-1).Draw(t, "act")
	t.Logf("%s", acts[i].Type())
	return acts[i]
}

func (c *clients) prefer(t *rapid.T) {
	b := c.someone(t, online)
	c.says(b.session, &protocol.Prefer{
		WhenBusy:     rapid.SampledFrom([]protocol.WhenBusy{protocol.CallWaiting, protocol.CallWaiting, protocol.AnswerBusy}).Draw(t, "when busy"),
		DoNotDisturb: rapid.IntRange(0, 9).Draw(t, "do not disturb") == 9,
	})
}

// sessionActions are what may happen to sessions and to the server.
func (c *clients) sessionActions() map[string]func(*rapid.T) {
	away := func(b *browser) bool { return !b.online }
	return map[string]func(*rapid.T){
		"connection lost": func(t *rapid.T) {
			b := c.someone(t, online)
			b.online = false
			c.event(b, ConnectionLost, transcriptStep{Happens: "connection lost"})
		},
		"page closed": func(t *rapid.T) {
			b := c.someone(t, online)
			b.online, b.sent, b.heard = false, nil, nil
			c.event(b, PageClosed, transcriptStep{Happens: "page closed"})
		},
		"connection back": func(t *rapid.T) {
			b := c.someone(t, away)
			b.online = true
			c.event(b, ConnectionBack, transcriptStep{Happens: "connection back"})
		},
		"reload": func(t *rapid.T) {
			b := c.someone(t, func(*browser) bool { return true })
			old, user := b.session, b.user()
			c.opened[user]++
			*b = browser{session: protocol.SessionID(fmt.Sprint(user, c.opened[user])), online: true, tickets: b.tickets}
			c.event(b, Rejoin, transcriptStep{Happens: "reloads", Of: old})
		},
		"session ends": func(t *rapid.T) {
			b := c.someone(t, func(*browser) bool { return true })
			c.step(Input{Kind: SessionEnded, Origin: c.at(b.session)}, func() { c.end(b.session) })
			c.step(Input{Kind: SessionOpened, Origin: originOf(b.user())}, func() { c.enter(b, b.user()) })
		},
		"server dies":  func(t *rapid.T) { c.dies(rapid.Bool().Draw(t, "the next one reads the records")) },
		"server stops": func(*rapid.T) { c.board.Close(); c.dies(true) },
	}
}

func (c *clients) pass(seconds int) {
	c.step(Input{Kind: RingTimeout}, func() { pass(time.Duration(seconds) * time.Second) })
}

// dies kills the server and starts another one with the same secret. The pages open new sessions there and
// rejoin by their tickets.
func (c *clients) dies(reads bool) {
	living := c.unfinished()
	c.restart(c.t, "secret")
	clear(c.before)
	clear(c.joined)
	if reads {
		c.board.Restore(living)
	} else {
		for _, r := range living {
			c.forgotten[r.Call] = true
		}
	}
	for _, b := range c.browsers {
		c.step(Input{Kind: SessionOpened, Origin: originOf(b.user())}, func() { c.enter(b, b.user()) })
		for _, r := range living {
			if sealed := b.tickets[r.Call]; sealed != "" {
				b.send(&protocol.Rejoin{Call: r.Call, Ticket: sealed})
			}
		}
	}
}

// unfinished returns the records of calls that were accepted and have not ended, without the forgotten ones.
func (c *clients) unfinished() []Record {
	done := map[protocol.CallID]bool{}
	for _, r := range c.ended() {
		done[r.Call] = true
	}
	return slices.DeleteFunc(slices.Clone(c.accepted), func(r Record) bool { return done[r.Call] || c.forgotten[r.Call] })
}

// check looks into the switchboard: each call keeps its own rules, and each user
// is in the calls that the switchboard thinks.
func (c *clients) check() {
	t, s := c.t, c.board
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, live := range s.calls {
		w := &world{call: *live.Call}
		for k, timer := range live.timers {
			w.armed[k] = timer != nil
		}
		before, known := c.before[id]
		if !known { // it began in this step
			before = w.call
		}
		by := c.last
		if by.User.ID == "" && before.state == Ringing && live.state == Active { // a ring that crossed it was looked up
			by = Input{Kind: Merge, Origin: originOf(live.callee.user.ID)}
		}
		w.hold(t, by, &before)
		c.before[id] = w.call
		if live.state == Ended {
			continue
		}
		caller, callee := live.Parties()
		for user, side := range map[protocol.UserID]*side{caller: &live.caller, callee: &live.callee} {
			rung := live.state == Ringing && user == callee
			sought := live.state == Looking && user == callee
			if known := s.inCall[user] == id; known == (side.former || rung || sought) {
				t.Errorf("call %s, %s: %s is rung: %v, has not come back: %v; the switchboard has them in it: %v",
					id, live.state, user, rung, side.former, known)
			}
			if known := slices.Contains(s.ringing[user], id); known != rung {
				t.Errorf("call %s, %s rings %s: %v; the switchboard thinks %v", id, live.state, user, rung, known)
			}
		}
		c.checkSide(id, live.state, &live.caller)
		if live.state == Active {
			c.checkSide(id, live.state, &live.callee)
		}
	}
	c.checkUsersLocked()
	if t.Failed() {
		t.Fatalf("after %s of %s", c.last.Kind, c.last.Session)
	}
}

// checkUsersLocked checks what the switchboard knows of each user, with its lock held.
func (c *clients) checkUsersLocked() {
	t, s := c.t, c.board
	for user, id := range s.inCall {
		if live := s.calls[id]; live == nil || live.state == Ended {
			t.Errorf("%s is in a call that is no more", user)
		}
	}
	for user, ids := range s.ringing {
		for _, id := range ids {
			if live := s.calls[id]; live == nil || live.state != Ringing {
				t.Errorf("%s is rung by a call that does not ring", user)
			}
		}
	}
	for _, user := range []protocol.UserID{"ann", "bob", "cy", "di"} {
		live := s.calls[s.inCall[user]]
		inCall := live != nil && live.state != Looking
		if busy := c.isBusy(user); busy != inCall {
			t.Errorf("%s is in a call: %v, and shown as busy: %v", user, inCall, busy)
		}
	}
}

// checkSide checks that who is not there has their time running, and nobody else.
func (c *clients) checkSide(id protocol.CallID, state State, s *side) {
	c.mu.Lock()
	defer c.mu.Unlock()
	session := c.sessions[s.session]
	if s.former { // the session's name may be in use again
		session = nil
	}
	if here := session != nil && !session.away; here == s.away {
		c.t.Errorf("call %s, %s: session %q is here: %v, for the call it is away: %v", id, state, s.session, here, s.away)
	}
}

func (c *clients) isBusy(user protocol.UserID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy[user]
}

// leave is the end: everybody goes, and with them every call, which has left one
// record if a server that knew it was there to the end.
func (c *clients) leave() {
	t := c.t
	for _, b := range c.browsers {
		c.step(Input{Kind: SessionEnded, Origin: c.at(b.session)}, func() { c.end(b.session) })
	}
	c.pass(300)
	if ringing, active := c.board.count(); ringing+active > 0 {
		t.Errorf("everybody has gone, and %d calls ring, %d are active", ringing, active)
	}
	times := map[protocol.CallID]int{}
	for _, r := range c.ended() {
		times[r.Call]++
		if r.Duration() < 0 || r.Reason == "" {
			t.Errorf("record %+v", r)
		}
	}
	for id, n := range times {
		if n != 1 {
			t.Errorf("call %s has %d records", id, n)
		}
	}
	for _, r := range c.unfinished() {
		t.Errorf("call %s was accepted, is over, and has no record", r.Call)
	}
}

// TestRandomCalls lets people call each other for a long time, on two devices
// each, by a network that loses, doubles, re-orders and delays what they say, with
// pages that reload and a server that dies. For more of it:
// go test ./internal/call -run TestRandomCalls -rapid.checks=20000
func TestRandomCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			c := newClients(t)
			defer pass(2 * time.Second) // a run that is broken off leaves no look-up behind
			c.knowsDelay = time.Duration(rapid.IntRange(0, 2).Draw(t, "how slow the records are")) * 400 * time.Millisecond
			for range 12 {
				t.Repeat(c.actions())
			}
			c.allArrives()
			c.leave()
		})
	})
}
