package edge

import (
	"compress/gzip"
	"io"
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

func TestSiteCompression(t *testing.T) {
	script := strings.Repeat("call.hangup();\n", 100)
	site := newSite(fstest.MapFS{
		"index.html":  {Data: []byte("<!doctype html>" + script)},
		"assets/a.js": {Data: []byte(script)},
		"tiny.js":     {Data: []byte("0")},
	})
	get := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		site.ServeHTTP(rec, r)
		return rec
	}
	validators := map[string]bool{}
	for _, test := range []struct {
		path, accept, wantEncoding, wantVary string
	}{
		{"/assets/a.js", "br, gzip", "gzip", "Accept-Encoding"},
		{"/assets/a.js", "gzip;q=0, br", "", "Accept-Encoding"},
		{"/assets/a.js", "", "", "Accept-Encoding"},
		{"/", "deflate, GZIP; q=0.5", "gzip", "Accept-Encoding"},
		{"/tiny.js", "gzip", "", ""},
	} {
		resp := get(test.path, "Accept-Encoding", test.accept)
		body := io.Reader(resp.Body)
		if got := resp.Header().Get("Content-Encoding"); got != test.wantEncoding {
			t.Errorf("%s to %q is encoded %q, want %q", test.path, test.accept, got, test.wantEncoding)
		} else if got == "gzip" {
			unpacked, err := gzip.NewReader(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = unpacked
		}
		content, err := io.ReadAll(body)
		if err != nil || (test.path != "/tiny.js" && !strings.HasSuffix(string(content), script)) {
			t.Errorf("%s to %q has %d bytes, %v", test.path, test.accept, len(content), err)
		}
		if got := resp.Header().Get("Vary"); got != test.wantVary {
			t.Errorf("%s varies with %q, want %q", test.path, got, test.wantVary)
		}
		validator := resp.Header().Get("ETag")
		if strings.HasPrefix(validator, "W/") || len(validator) < 10 {
			t.Errorf("%s has the validator %q, want a strong one", test.path, validator)
		}
		validators[validator] = true
		again := get(test.path, "Accept-Encoding", test.accept, "If-None-Match", validator)
		if again.Code != http.StatusNotModified {
			t.Errorf("%s once more to %q: %d, want 304", test.path, test.accept, again.Code)
		}
	}
	if len(validators) != 4 {
		t.Errorf("%d validators for four representations: %v", len(validators), validators)
	}
	if got := get("/assets/", "Accept-Encoding", "gzip").Code; got != http.StatusNotFound {
		t.Errorf("the folder: %d, want 404", got)
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
