package outbox

import (
	"testing"
)

func TestServices(t *testing.T) {
	for entry, want := range map[string]bool{
		"push.example.org": true, "*.push.example.org": true, "http://127.0.0.1:9000": true, "https://push.example.org": true,
		"": false, "*": false, "*.": false, "com": false, "push.example.org/x": false, "push.example.org:443": false, "127.0.0.1": false,
		"**.example.org": false, "*example.org": false, ".example.org": false, "https://push.example.org/x": false, "ftp://push.example.org": false,
		"https://me@push.example.org": false,
	} {
		if err := CheckService(entry); (err == nil) != want {
			t.Errorf("%q: %v", entry, err)
		}
	}
	for _, entry := range DefaultServices() {
		if err := CheckService(entry); err != nil {
			t.Error(err)
		}
	}
}
