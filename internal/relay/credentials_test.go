package relay

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var now = time.Unix(1_800_000_000, 500)

func TestIssue(t *testing.T) {
	secret := bytes.Repeat([]byte("s"), 32)
	tests := []struct {
		user, call, party string
		ttl               time.Duration
		expires           int64
	}{
		{"anna", "", "", time.Minute, 1_800_000_060},
		{"anna", "call:1", "caller", time.Hour, 1_800_003_600},
		{"Jürgen 😀\x00:\r\n", ":", "::", 24 * time.Hour, 1_800_003_600},
		{"", "", "", -time.Minute, 1_799_999_940},
	}
	for _, test := range tests {
		credentials := Issue(secret, test.user, test.call, test.party, now, test.ttl)
		got, err := parseUsername(credentials.Username)
		if err != nil {
			t.Errorf("parseUsername(%q): %v", credentials.Username, err)
			continue
		}
		if got.user != test.user || got.call != test.call || got.party != test.party {
			t.Errorf("names = %q, %q, %q, want %q, %q, %q", got.user, got.call, got.party, test.user, test.call, test.party)
		}
		if got.expires.Unix() != test.expires || !got.expires.Equal(credentials.Expires) {
			t.Errorf("expires = %v and %v, want %v", got.expires.Unix(), credentials.Expires.Unix(), test.expires)
		}
		if got.secretID != secretID(secret) {
			t.Errorf("secret id = %q, want %q", got.secretID, secretID(secret))
		}
	}
}

func TestIssueVector(t *testing.T) {
	got := Issue([]byte("0123456789abcdef0123456789abcdef"), "anna", "c1", "caller", now, time.Hour)
	want := Credentials{
		Username: "1800003600:2cc6d8c0:YW5uYQ:YzE:Y2FsbGVy",
		Password: "CB8OkulgjyQNVjm5OCK10mz54yaR9rq+5PNcQr2Mu1M=",
		Expires:  time.Unix(1_800_003_600, 0),
	}
	if got != want {
		t.Errorf("Issue = %+v, want %+v", got, want)
	}
}

func TestIssueFitsSTUN(t *testing.T) {
	long := strings.Repeat("x", 117)
	got := Issue(bytes.Repeat([]byte("s"), 32), long, long, long[:116], now, time.Hour)
	if len(got.Username) > 508 { // RFC 8489 §14.3
		t.Errorf("length of the user name = %d, want at most 508", len(got.Username))
	}
}

func TestParseUsernameMalformed(t *testing.T) {
	for _, username := range []string{
		"", ":", "::::", "1800000000", "1800000000:anna", "x:0:YQ:YQ:YQ", "01800000000:0:YQ:YQ:YQ", "+1:0:YQ:YQ:YQ",
		"99999999999999999999:0:YQ:YQ:YQ", "1:0:YQ:YQ", "1:0:YQ:YQ:YQ:YQ", "1:0:YQ==:YQ:YQ", "1:0:YR:YQ:YQ",
		"1:0:Y\nQ:YQ:YQ", "1:0:+/:YQ:YQ", " 1:0:YQ:YQ:YQ",
	} {
		if got, err := parseUsername(username); err == nil {
			t.Errorf("parseUsername(%q) = %+v, want an error", username, got)
		}
	}
}

func FuzzParseUsername(f *testing.F) {
	secret := bytes.Repeat([]byte("s"), 32)
	f.Add(Issue(secret, "anna", "call", "caller", now, time.Hour).Username)
	f.Add("1:0:::")
	f.Add("-1:x:YQ:YQ:YQ")
	f.Fuzz(func(t *testing.T, username string) {
		got, err := parseUsername(username)
		if err != nil {
			return
		}
		again := Issue(secret, got.user, got.call, got.party, got.expires, 0).Username
		ours := strings.Replace(username, ":"+got.secretID+":", ":"+secretID(secret)+":", 1)
		if again != ours {
			t.Errorf("second spelling: %q and %q", ours, again)
		}
	})
}
