package account

import (
	"strings"
	"testing"
	"time"

	"github.com/visavis/visavis/protocol"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func code(e *protocol.Error) protocol.Code {
	if e == nil {
		return ""
	}
	return e.Code
}

func TestANameBelongsToWhoIsHere(t *testing.T) {
	g := newGuests(t, newFakeLogins())
	ann, token, err := g.Enter(t.Context(), "  Ann \t Lee ", "", now)
	if err != nil || ann.Name != "Ann Lee" || ann.ID == "" {
		t.Fatalf("enter: %+v, %v", ann, err)
	}
	if _, _, err := g.Enter(t.Context(), "ann lee", "", now); code(err) != protocol.CodeNameTaken {
		t.Errorf("another with the name: %v", err)
	}
	if _, err := g.EnterUnproven("Ann Lee"); code(err) != protocol.CodeNameTaken {
		t.Errorf("an unproven one with the name: %v", err)
	}
	again, _, err := g.Enter(t.Context(), "", token, now)
	if err != nil || again != ann {
		t.Errorf("by token: %+v, %v", again, err)
	}
	renamed, token2, err := g.Enter(t.Context(), "Anna", token, now)
	if err != nil || renamed.ID != ann.ID || renamed.Name != "Anna" {
		t.Errorf("renamed: %+v, %v", renamed, err)
	}
	if id, ok := g.Named("ANNA"); !ok || id != ann.ID {
		t.Errorf("named Anna: %q, %v", id, ok)
	}
	if _, ok := g.Named("Ann Lee"); ok {
		t.Error("the old name is still held")
	}
	if who, err := g.Who(t.Context(), token2, now); err != nil || who != renamed {
		t.Errorf("who: %+v, %v", who, err)
	}
	for range 3 { // as often as she entered
		g.Leave(ann.ID)
	}
	if bob, _, err := g.Enter(t.Context(), "Anna", "", now); err != nil || bob.ID == ann.ID {
		t.Errorf("the name after she left: %+v, %v", bob, err)
	}
	if _, _, err := g.Enter(t.Context(), "", token2, now); code(err) != protocol.CodeNameTaken {
		t.Errorf("back when the name is another's: %v", err)
	}
	if back, _, err := g.Enter(t.Context(), "Ann again", token2, now); err != nil || back.ID != ann.ID {
		t.Errorf("back by another name: %+v, %v", back, err)
	}
}

// Nobody shares a name with an unproven guest, and nobody gets the id of one.
func TestAnUnprovenGuestIsHereOnce(t *testing.T) {
	g := newGuests(t, newFakeLogins())
	one, err := g.EnterUnproven("Old Page")
	if err != nil || !strings.HasPrefix(string(one.ID), "n") {
		t.Fatalf("got %+v, %v", one, err)
	}
	if _, err := g.EnterUnproven("old page"); code(err) != protocol.CodeNameTaken {
		t.Errorf("another one of the name: %v", err)
	}
	if _, _, err := g.Enter(t.Context(), "Old Page", "", now); code(err) != protocol.CodeNameTaken {
		t.Errorf("a page of ours with the name: %v", err)
	}
	if again, err := g.come(t.Context(), Credentials{Again: one.ID}, now); err != nil || again.User != one || again.Token != "" {
		t.Errorf("a second session of the same: %+v, %v", again, err)
	}
	g.Leave(one.ID)
	if _, ok := g.Named("Old Page"); !ok {
		t.Error("gone while one of two is here")
	}
	g.Leave(one.ID)
	if _, ok := g.Named("Old Page"); ok {
		t.Error("here when both have left")
	}
	if _, err := g.come(t.Context(), Credentials{Again: one.ID}, now); code(err) != protocol.CodeUnauthorized {
		t.Errorf("in again after having left: %v", err)
	}
	if two, err := g.EnterUnproven("Old Page"); err != nil || two.ID == one.ID {
		t.Errorf("the next of the name: %+v, %v", two, err)
	}
	if ann, _, _ := g.Enter(t.Context(), "Ann", "", now); strings.HasPrefix(string(ann.ID), "n") {
		t.Errorf("a guest with a token has the id %s", ann.ID)
	}
}

// A name is free once its holder's sessions have ended, before their ends are told.
func TestANameIsFreedOnlyOfSomebodyGone(t *testing.T) {
	g := newGuests(t, newFakeLogins())
	ann, token, _ := g.Enter(t.Context(), "Ann", "", now)
	if _, err := g.EnterUnproven("Ann"); code(err) != protocol.CodeNameTaken {
		t.Errorf("freed of somebody who is here: %v", err)
	}
	g.sessions.gone[ann.ID] = true
	coming, refused := g.Guests.Enter(t.Context(), Credentials{Token: token}, now)
	if refused != nil {
		t.Fatal(refused)
	}
	if _, err := g.EnterUnproven("Ann"); code(err) != protocol.CodeNameTaken {
		t.Errorf("freed while a session is about to begin: %v", err)
	}
	g.Entered(coming) // and the hub has refused it
	other, err := g.EnterUnproven("Ann")
	if err != nil {
		t.Fatal(err)
	}
	g.Departed(ann.ID)
	if id, _ := g.Named("Ann"); id != other.ID {
		t.Errorf("the one who has gone takes the name away from %s: %s", other.ID, id)
	}
	if _, _, err := g.Enter(t.Context(), "", token, now); code(err) != protocol.CodeNameTaken {
		t.Errorf("back when the name is another's: %v", err)
	}
}

// A guest who entered and got no session leaves nothing behind.
func TestAVisitorWhomTheHubRefusesHasNoName(t *testing.T) {
	g := newGuests(t, newFakeLogins())
	who, refused := g.Guests.Enter(t.Context(), Credentials{Name: "Ann"}, now)
	if refused != nil {
		t.Fatal(refused)
	}
	if _, err := g.EnterUnproven("Ann"); code(err) != protocol.CodeNameTaken {
		t.Errorf("the name of one who is coming in: %v", err)
	}
	g.Entered(who)
	g.Entered(who) // once is enough
	if len(g.byID)+len(g.byName) != 0 {
		t.Errorf("left behind: %v %v", g.byID, g.byName)
	}
	if _, err := g.EnterUnproven("Ann"); err != nil {
		t.Errorf("the name afterwards: %v", err)
	}
}
