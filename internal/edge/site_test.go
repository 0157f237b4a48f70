package edge

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func TestSite(t *testing.T) {
	site := withHeaders(newSite(fstest.MapFS{
		"index.html":           {Data: []byte("<!doctype html>")},
		"worker.js":            {Data: []byte("0")},
		"manifest.webmanifest": {Data: []byte("{}")},
		"assets/page-1x2y.js":  {Data: []byte("0")},
	}), false)
	tests := []struct {
		path, wantType, wantCache string
	}{
		{"/", "text/html; charset=utf-8", "no-cache"},
		{"/worker.js", "text/javascript; charset=utf-8", "no-cache"},
		{"/manifest.webmanifest", "application/manifest+json", "no-cache"},
		{"/assets/page-1x2y.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
	}
	for _, test := range tests {
		rec := httptest.NewRecorder()
		site.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, nil))
		header := rec.Result().Header
		if got := header.Get("Content-Type"); got != test.wantType {
			t.Errorf("%s is %q, want %q", test.path, got, test.wantType)
		}
		if got := header.Get("Cache-Control"); got != test.wantCache {
			t.Errorf("%s may be kept %q, want %q", test.path, got, test.wantCache)
		}
	}
}

// Of all that runs scripts by a text, the page needs one: the address of its
// service worker, for which the policy names one maker.
func TestSitePolicy(t *testing.T) {
	rec := httptest.NewRecorder()
	withHeaders(newSite(fstest.MapFS{}), false).
		ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	policy := "; " + rec.Result().Header.Get("Content-Security-Policy") + ";"
	for _, want := range []string{
		"default-src 'none'", "script-src 'self'", "worker-src 'self'",
		"require-trusted-types-for 'script'", "trusted-types visavis-worker",
	} {
		if !strings.Contains(policy, "; "+want+";") {
			t.Errorf("the page's policy lacks %q: %s", want, policy)
		}
	}
}
