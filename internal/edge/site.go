package edge

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

const notBuilt = `<!doctype html><meta charset="utf-8"><title>Visavis</title>
<p>The server runs, but its page is not built. Run <code>make web</code>, then build and start the server again.</p>
`

// newSite serves the web app. Browsers may cache files that are named by their
// content for ever. They revalidate all other files at each use, and get a 304 if a
// file is unchanged: each file has a strong validator (RFC 9110 §8.8.1) made from
// its content. Text is compressed for clients that accept gzip.
func newSite(files fs.FS) http.Handler {
	if files == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(notBuilt))
		})
	}
	server := http.FileServerFS(files)
	assets := sync.OnceValue(func() map[string]asset { return readAssets(files) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET here", http.StatusMethodNotAllowed)
			return
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/assets/") && strings.HasSuffix(r.URL.Path, "/"):
			http.NotFound(w, r) // no listing of the folder
			return
		case strings.HasPrefix(r.URL.Path, "/assets/"):
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		default:
			w.Header().Set("Cache-Control", "no-cache")
		}
		if strings.HasSuffix(r.URL.Path, ".webmanifest") {
			w.Header().Set("Content-Type", "application/manifest+json") // which few systems know
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		// FileServer redirects from /index.html to its folder.
		if a, ok := assets()[name]; ok && r.URL.Path != "/index.html" && a.serve(w, r, name) {
			return
		}
		server.ServeHTTP(w, r)
	})
}

// asset is one file of the site in memory.
type asset struct {
	validator string // without the quotes of an ETag
	gzip      []byte // nil where that saves little
}

// readAssets reads and compresses all files: some hundred kilobytes, within some ten
// milliseconds. It leaves out files that it cannot read.
func readAssets(files fs.FS) map[string]asset {
	assets := map[string]asset{}
	_ = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return nil
		}
		sum := sha256.Sum256(content)
		a := asset{validator: hex.EncodeToString(sum[:12])}
		if packed := compress(content); len(packed) < len(content)*9/10 {
			a.gzip = packed
		}
		assets[name] = a
		return nil
	})
	return assets
}

func compress(content []byte) []byte {
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // fails for levels that do not exist
	_, _ = w.Write(content)                                    // a Buffer takes everything
	_ = w.Close()
	return packed.Bytes()
}

// serve sends the compressed file if there is one and the client accepts gzip. In any
// other case it sets the headers of the uncompressed file and returns false.
func (a asset) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	h := w.Header()
	if a.gzip != nil {
		h.Add("Vary", "Accept-Encoding")
	}
	if a.gzip == nil || !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		h.Set("ETag", strconv.Quote(a.validator))
		return false
	}
	// Another representation, so another validator: RFC 9110 §8.8.3.3.
	h.Set("ETag", strconv.Quote(a.validator+"-gzip"))
	h.Set("Content-Encoding", "gzip")
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	}
	if r.Header.Get("Range") == "" {
		h.Set("Content-Length", strconv.Itoa(len(a.gzip))) // ServeContent leaves it out of what is encoded
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.gzip))
	return true
}

// acceptsGzip reports whether a client accepts gzip (RFC 9110 §12.5.3). It ignores "*":
// clients that send it name gzip, too.
func acceptsGzip(values []string) bool {
	for _, value := range values {
		for coding := range strings.SplitSeq(value, ",") {
			name, weight, weighted := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			q := strings.TrimPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
			w, err := strconv.ParseFloat(q, 64)
			return !weighted || (err == nil && w > 0)
		}
	}
	return false
}

// contentSecurityPolicy lets the page load from this server only, runs no inline script
// and shows the page in no frame.
var contentSecurityPolicy = strings.Join([]string{
	"default-src 'none'",
	"script-src 'self'",
	"style-src 'self'",
	"img-src 'self' data: blob:",
	"media-src 'self' blob:",
	"font-src 'self'",
	"connect-src 'self'",
	"manifest-src 'self'",
	"worker-src 'self'",
	"base-uri 'none'",
	"form-action 'none'",
	"frame-ancestors 'none'",
	"require-trusted-types-for 'script'",
	"trusted-types visavis-worker", // the address of the service worker, and nothing else (web/app/src/worker-address.ts)
}, "; ")

func withHeaders(next http.Handler, strictTransport bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("Permissions-Policy", "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=(), usb=()")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if !strings.HasPrefix(r.URL.Path, socketIOPath) { // read by pages of the allowed origins
			h.Set("Cross-Origin-Resource-Policy", "same-origin")
		}
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if strictTransport {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}
