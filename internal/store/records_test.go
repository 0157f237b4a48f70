package store_test

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/call"
	"github.com/visavis/visavis/internal/store"
	"github.com/visavis/visavis/protocol"
)

var (
	ann = protocol.User{ID: "uann", Name: "Ann"}
	bob = protocol.User{ID: "ubob", Name: "Bob Ω"}
	eve = protocol.User{ID: "ueve", Name: "Eve"}
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// record returns the record of the i-th call of a test, made i seconds after noon.
func record(i int, caller, callee protocol.User) call.Record {
	rung := noon.Add(time.Duration(i) * time.Second)
	return call.Record{
		Call: protocol.CallID(fmt.Sprintf("n1-%06d", i)), Caller: caller, Callee: callee,
		Video: i%2 == 0, RungAt: rung, AcceptedAt: rung.Add(2 * time.Second), EndedAt: rung.Add(time.Minute),
		Reason: protocol.ReasonHungup, RelayedBytes: uint64(i) << 40, Detail: protocol.DetailNoPath,
	}
}

func recent(t *testing.T, s *store.DB, user protocol.User, before protocol.CallID, limit int) []call.Record {
	t.Helper()
	got, err := s.Records.Recent(t.Context(), user.ID, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func ids(records []call.Record) []protocol.CallID {
	all := []protocol.CallID{}
	for _, r := range records {
		all = append(all, r.Call)
	}
	return all
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		answered := record(1, ann, bob)
		missed := record(2, bob, ann)
		missed.AcceptedAt, missed.Reason = time.Time{}, protocol.ReasonUnanswered
		missed.RungAt = missed.RungAt.In(time.FixedZone("elsewhere", 3600))
		s.Records.Record(answered)
		s.Records.Record(missed)
		s.Records.Record(record(3, bob, eve))
		settled(t, s)

		missed.RungAt = missed.RungAt.UTC()
		want := []call.Record{missed, answered}
		if diff := gocmp.Diff(want, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
		if got := recent(t, s, protocol.User{ID: "unobody"}, "", 50); len(got) != 0 {
			t.Errorf("a stranger's calls: %v", ids(got))
		}
	})
}

func TestACallIsRecordedOnce(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		first, again := record(1, ann, bob), record(1, ann, bob)
		again.Reason = protocol.ReasonLost
		s.Records.Record(first)
		settled(t, s)
		s.Records.Record(again)
		s.Records.Record(again)
		settled(t, s)
		if diff := gocmp.Diff([]call.Record{first}, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
	})
}

func TestACallThatLivesIsKeptUntilItsEnd(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		stop := run(t, s)
		living, ended, other := record(1, ann, bob), record(2, ann, bob), record(3, ann, bob)
		other.Call = "n2-000003"
		for _, r := range []call.Record{living, ended, other} {
			r.EndedAt, r.Reason = time.Time{}, ""
			s.Records.Record(r)
		}
		s.Records.Record(ended) // perhaps in one batch with its beginning
		s.Records.Record(ended)
		if diff := gocmp.Diff([]call.Record{ended}, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s, _ = open(t, db) // the next run of the node
		run(t, s)
		kept, err := s.Records.Living(t.Context(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		want := living
		want.EndedAt, want.Reason = time.Time{}, ""
		if diff := gocmp.Diff([]call.Record{want}, kept); diff != "" {
			t.Errorf("calls that live (-want +got):\n%s", diff)
		}
		for _, accepted := range []time.Time{living.AcceptedAt, time.Now().Add(time.Hour)} { // before the end log was made, and after it
			if lives, err := s.Records.Lives(t.Context(), living.Call, accepted); !lives || err != nil {
				t.Errorf("a call that was accepted at %v and lives: %v, %v", accepted, lives, err)
			}
		}
		if lives, err := s.Records.Lives(t.Context(), "n1-unknown", living.AcceptedAt); lives || err != nil {
			t.Errorf("a call of which nothing is known lives: %v, %v", lives, err)
		}
		s.Records.Record(living)
		if lives, err := s.Records.Lives(t.Context(), living.Call, living.AcceptedAt); lives || err != nil {
			t.Errorf("a call that has ended lives: %v, %v", lives, err)
		}
		if diff := gocmp.Diff([]call.Record{ended, living}, recent(t, s, ann, "", 50)); diff != "" {
			t.Errorf("Ann's calls (-want +got):\n%s", diff)
		}
		if kept, err := s.Records.Living(t.Context(), "n1"); err != nil || len(kept) != 0 {
			t.Errorf("calls that live after the end: %v, %v", kept, err)
		}
	})
}

func TestWhoKnowsWhom(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		dan, fay, gus := protocol.User{ID: "udan"}, protocol.User{ID: "ufay"}, protocol.User{ID: "ugus"}
		accepted, unanswered, living := record(1, ann, bob), record(2, ann, eve), record(3, dan, ann)
		unanswered.AcceptedAt, unanswered.Reason = time.Time{}, protocol.ReasonUnanswered
		living.EndedAt, living.Reason = time.Time{}, ""
		odd := record(4, protocol.User{ID: "u\x00"}, ann) // as a client may call them
		odd.AcceptedAt = time.Time{}
		for _, r := range []call.Record{accepted, unanswered, living, odd} {
			s.Records.Record(r)
		}
		for _, test := range []struct {
			user, other protocol.User
			want        bool
		}{
			{ann, bob, true},  // she has rung him
			{bob, ann, true},  // and he accepted
			{ann, eve, true},  // she has rung her
			{eve, ann, false}, // who did not accept
			{dan, ann, true},  // they talk to each other
			{ann, dan, true},
			{bob, eve, false},
			{fay, gus, false},
			{ann, ann, false},
			{odd.Caller, ann, true},
			{ann, odd.Caller, false},
		} {
			got, err := s.Records.Knows(t.Context(), test.user.ID, test.other.ID)
			if err != nil || got != test.want {
				t.Errorf("%q knows %q: %v, %v; want %v", test.user.ID, test.other.ID, got, err, test.want)
			}
		}
		unanswered = record(5, ann, eve) // at last
		s.Records.Record(unanswered)
		if got, err := s.Records.Knows(t.Context(), eve.ID, ann.ID); !got || err != nil {
			t.Errorf("Eve, who has just accepted, knows Ann: %v, %v", got, err)
		}
		exec(t, db.side, "DELETE FROM calls")
		if got, err := s.Records.Knows(t.Context(), ann.ID, bob.ID); !got || err != nil {
			t.Errorf("Ann knows Bob when the records are gone: %v, %v", got, err)
		}
		exec(t, db.side, "ALTER TABLE acquaintances RENAME TO gone")
		if _, err := s.Records.Knows(t.Context(), fay.ID, gus.ID); err == nil {
			t.Error("Knows does not say that the database fails")
		}
	})
}

func TestHasCalled(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		missed := record(1, ann, bob)
		missed.AcceptedAt = time.Time{}
		s.Records.Record(missed)
		for user, want := range map[protocol.UserID]bool{ann.ID: true, bob.ID: false, "unobody": false} {
			if got, err := s.Records.HasCalled(t.Context(), user); err != nil || got != want {
				t.Errorf("%s: %v, %v, want %v", user, got, err, want)
			}
		}
		s.Records.Record(record(2, ann, bob))
		if got, err := s.Records.HasCalled(t.Context(), bob.ID); err != nil || !got {
			t.Errorf("who has accepted: %v, %v", got, err)
		}
		exec(t, db.side, "ALTER TABLE acquaintances RENAME TO gone")
		if _, err := s.Records.HasCalled(t.Context(), ann.ID); err == nil {
			t.Error("what cannot be read is told as none")
		}
	})
}

// TestOldRecordsAreDeleted also checks that other records stay, and that the users still know each other.
func TestOldRecordsAreDeleted(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		stop := run(t, s)
		now := time.Now()
		old := func(n int, age time.Duration, callee protocol.User) call.Record {
			r := record(n, ann, callee)
			r.RungAt, r.AcceptedAt, r.EndedAt = now.Add(-age-2*time.Minute), now.Add(-age-time.Minute), now.Add(-age)
			return r
		}
		living := old(0, 40*24*time.Hour, bob)
		living.EndedAt, living.Reason = time.Time{}, ""
		s.Records.Record(living)
		for i := range 1200 { // more than one batch
			s.Records.Record(old(i+1, 31*24*time.Hour, bob))
		}
		s.Records.Record(old(2000, 29*24*time.Hour, eve))
		settled(t, s)
		stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}

		s, err := store.Open(store.Config{
			URL: db.url, EndLog: filepath.Join(t.TempDir(), "ends.log"), Keep: 30 * 24 * time.Hour,
		}, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		run(t, s)
		eventually(t, "only the young record and the call that goes on are kept", func() bool {
			var kept int
			return db.side.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM calls").Scan(&kept) == nil && kept == 2
		})
		if got := recent(t, s, ann, "", 5); len(got) != 1 || got[0].Callee.ID != eve.ID {
			t.Errorf("Ann's calls: %+v", got)
		}
		if knows, err := s.Records.Knows(t.Context(), bob.ID, ann.ID); !knows || err != nil {
			t.Errorf("Bob knows Ann: %v, %v", knows, err)
		}
	})
}

func TestPages(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		var want []call.Record
		for i := range 60 {
			r := record(i, ann, bob)
			if i%3 == 0 {
				r.Caller, r.Callee = bob, ann
			}
			if i%7 == 0 {
				r.Callee = r.Caller // no call of ours, but it must not come twice
			}
			r.RungAt = noon.Add(time.Duration(i/4) * time.Second) // four at once
			s.Records.Record(r)
			if r.Caller == ann || r.Callee == ann {
				want = append(want, r)
			}
		}
		settled(t, s)
		slices.SortFunc(want, func(a, b call.Record) int {
			return cmp.Or(b.RungAt.Compare(a.RungAt), cmp.Compare(b.Call, a.Call))
		})
		var got []call.Record
		for before := protocol.CallID(""); ; {
			page := recent(t, s, ann, before, 7)
			if len(page) == 0 {
				break
			}
			if len(page) > 7 {
				t.Fatalf("a page of 7 has %d calls", len(page))
			}
			got = append(got, page...)
			before = page[len(page)-1].Call
		}
		if diff := gocmp.Diff(ids(want), ids(got)); diff != "" {
			t.Errorf("all pages (-want +got):\n%s", diff)
		}

		for _, before := range []protocol.CallID{"n1-unknown", want[0].Call} {
			_, err := s.Records.Recent(t.Context(), eve.ID, before, 7)
			if listed := (*protocol.Error)(nil); !errors.As(err, &listed) || listed.Code != protocol.CodeUnknownCall {
				t.Errorf("Eve's calls before %s: error %v, want %s", before, err, protocol.CodeUnknownCall)
			}
		}
	})
}

func TestTextThatADatabaseRefuses(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		run(t, s)
		r := record(1, ann, bob)
		r.Caller.Name = "A\x00n\xffn"
		s.Records.Record(r)
		settled(t, s)
		got := recent(t, s, ann, "", 1)
		if len(got) != 1 || got[0].Caller.Name != "A\uFFFDn\uFFFDn" {
			t.Errorf("got %+v", got)
		}
	})
}
