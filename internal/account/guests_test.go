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
	g := NewGuests([]byte("secret"))
	ann, token, err := g.Enter("  Ann \t Lee ", "", now)
	if err != nil || ann.Name != "Ann Lee" || ann.ID == "" {
		t.Fatalf("enter: %+v, %v", ann, err)
	}
	if _, _, err := g.Enter("ann lee", "", now); code(err) != protocol.CodeNameTaken {
		t.Errorf("another with the name: %v", err)
	}
	if _, err := g.EnterUnproven("Ann Lee", now); code(err) != protocol.CodeNameTaken {
		t.Errorf("an unproven one with the name: %v", err)
	}
	again, _, err := g.Enter("", token, now)
	if err != nil || again != ann {
		t.Errorf("by token: %+v, %v", again, err)
	}
	renamed, token2, err := g.Enter("Anna", token, now)
	if err != nil || renamed.ID != ann.ID || renamed.Name != "Anna" {
		t.Errorf("renamed: %+v, %v", renamed, err)
	}
	if id, ok := g.Named("ANNA"); !ok || id != ann.ID {
		t.Errorf("named Anna: %q, %v", id, ok)
	}
	if _, ok := g.Named("Ann Lee"); ok {
		t.Error("the old name is still held")
	}
	if who, err := g.Who(token2, now); err != nil || who != renamed {
		t.Errorf("who: %+v, %v", who, err)
	}
	for range 3 { // as often as she entered
		g.Leave(ann.ID)
	}
	if bob, _, err := g.Enter("Anna", "", now); err != nil || bob.ID == ann.ID {
		t.Errorf("the name after she left: %+v, %v", bob, err)
	}
	if _, _, err := g.Enter("", token2, now); code(err) != protocol.CodeNameTaken {
		t.Errorf("back when the name is another's: %v", err)
	}
	if back, _, err := g.Enter("Ann again", token2, now); err != nil || back.ID != ann.ID {
		t.Errorf("back by another name: %+v, %v", back, err)
	}
}

func TestUnprovenGuestsOfOneNameAreOne(t *testing.T) {
	g := NewGuests([]byte("secret"))
	one, _ := g.EnterUnproven("Old Page", now)
	two, err := g.EnterUnproven("old page", now)
	if err != nil || two.ID != one.ID {
		t.Errorf("got %+v, %v, want %s", two, err, one.ID)
	}
	if _, _, err := g.Enter("Old Page", "", now); code(err) != protocol.CodeNameTaken {
		t.Errorf("a page of ours with the name: %v", err)
	}
	g.Leave(one.ID)
	if _, ok := g.Named("Old Page"); !ok {
		t.Error("gone while one of two is here")
	}
	g.Leave(one.ID)
	if _, ok := g.Named("Old Page"); ok {
		t.Error("here when both have left")
	}
}

func TestTokens(t *testing.T) {
	g := NewGuests([]byte("secret"))
	_, token, _ := g.Enter("Ann", "", now)
	for name, bad := range map[string]string{
		"garbage": "garbage", "empty parts": "....", "cut": token[:len(token)-1], "changed": "g2" + token[2:],
		"another id": strings.Replace(token, "g1.u", "g1.v", 1),
	} {
		if _, err := g.Who(bad, now); code(err) != protocol.CodeUnauthorized {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := g.Enter("Bob", bad, now); code(err) != protocol.CodeUnauthorized {
			t.Errorf("%s, enter: %v", name, err)
		}
	}
	if _, err := g.Who(token, now.Add(tokenAge)); code(err) != protocol.CodeUnauthorized {
		t.Errorf("expired: %v", err)
	}
	if _, err := NewGuests([]byte("other")).Who(token, now); code(err) != protocol.CodeUnauthorized {
		t.Errorf("another place's: %v", err)
	}
	if _, err := NewGuests([]byte("secret")).Who(token, now); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func FuzzToken(f *testing.F) {
	g := NewGuests([]byte("secret"))
	_, token, _ := g.Enter("Ann", "", now)
	f.Add(token)
	f.Fuzz(func(t *testing.T, tampered string) {
		if who, err := g.Who(tampered, now); err == nil && tampered != token {
			t.Fatalf("%q is taken for %+v", tampered, who)
		}
	})
}
