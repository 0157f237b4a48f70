// Package visavis_test keeps the house in order: who may import whom is a table, and the sources are
// compared with it.
package visavis_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/visavis/visavis"

// Modules that several packages use.
const (
	prometheus = "github.com/prometheus/client_golang/prometheus"
	websocket  = "github.com/lxzan/gws"
	rate       = "golang.org/x/time"
)

// An allowance is what a package may import beside the standard library.
type allowance struct {
	own   []string // packages of ours, relative to the module; x/... is x and what lies below it
	other []string // modules or packages of others, always with what lies below them
}

// mayImport is who may import whom, in all files but tests. A package that is not here is an error: give it a
// row, and argue it.
var mayImport = map[string]allowance{
	"protocol": {},

	"internal/limit":       {},
	"internal/certificate": {},
	// A panic is counted for the whole process, by whoever recovers from it.
	"internal/panics": {other: []string{prometheus}},
	"internal/origin": {own: []string{"protocol"}},
	"internal/account": {
		own:   []string{"protocol"},
		other: []string{"golang.org/x/text"},
	},
	"internal/call": {
		own:   []string{"internal/account", "internal/limit", "internal/origin", "internal/panics", "protocol"},
		other: []string{prometheus},
	},
	"internal/hub": {
		own:   []string{"internal/origin", "internal/panics", "protocol"},
		other: []string{prometheus},
	},

	"internal/relay": {
		own:   []string{"internal/limit", "internal/panics", "internal/relay/feed", "internal/relay/wire"},
		other: []string{"golang.org/x/sys", prometheus},
	},
	"internal/relay/feed": {
		own:   []string{"internal/panics"},
		other: []string{prometheus},
	},
	"internal/relay/wire": {},
	"internal/turnload": {
		// A client of any TURN server: it shares the codec with ours and knows nothing else of it. Messages are pion/stun's,
		// packets the kernel's own calls, and percentiles want a histogram that costs nothing to fill.
		own: []string{"internal/relay/wire"},
		other: []string{
			"github.com/HdrHistogram/hdrhistogram-go", "github.com/pion/stun/v4", "golang.org/x/sys",
		},
	},
	"internal/outbox": {
		own:   []string{"internal/panics", "protocol"},
		other: []string{prometheus},
	},
	"internal/store": {
		own: []string{"internal/account", "internal/call", "internal/outbox", "protocol"},
		other: []string{
			"modernc.org/sqlite", "github.com/jackc/pgx/v5", "github.com/pressly/goose/v3", prometheus,
		},
	},
	"internal/store/migrations": {},
	"internal/edge": {
		own:   []string{"internal/account", "internal/call", "internal/hub", "internal/limit", "internal/panics", "protocol", "web"},
		other: []string{websocket, prometheus},
	},
	"internal/socketio": {
		own:   []string{"internal/account", "internal/hub", "internal/limit", "internal/panics", "protocol"},
		other: []string{websocket},
	},

	"internal/node": {
		own: []string{
			"internal/account", "internal/call", "internal/certificate", "internal/edge", "internal/hub", "internal/origin", "internal/outbox", "internal/panics",
			"internal/relay", "internal/relay/feed", "internal/socketio", "internal/store", "protocol",
		},
		other: []string{"golang.org/x/sync/errgroup", prometheus},
	},
	"internal/node/nodetest": {
		own: []string{"internal/node", "client", "protocol"},
	},

	"client": {
		own:   []string{"protocol"},
		other: []string{websocket},
	},

	"cmd/visavis": {
		own:   []string{"internal/certificate", "internal/node", "internal/relay", "internal/relay/feed", "internal/turnload"},
		other: []string{"github.com/alecthomas/kong", "github.com/BurntSushi/toml", "rsc.io/qr"},
	},

	"web": {},
}

// unbound are packages that measure or try the whole from outside: they may import anything.
var unbound = []string{"bench/...", "test/..."}

// testsMayImport comes on top of a package's own allowance, in its _test.go files. Real parts instead of mocks:
// a database (SQLite), a node, a relay, a client, a peer.
var testsMayImport = allowance{
	own: []string{
		"client", "client/peer", "internal/certificate", "internal/node", "internal/node/nodetest", "internal/origin", "internal/relay", "internal/socketio", "internal/store",
		"protocol", "test/frontproxy",
	},
	other: []string{
		"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "go.uber.org/goleak",
		"pgregory.net/rapid", "github.com/nats-io/nats-server/v2", "github.com/pion", prometheus, websocket,
	},
}

// domain packages know no machinery, not even that of the standard library.
var domain = []string{"internal/account", "internal/call", "internal/hub"}

// machinery is what the domain must not know.
func machinery(imp string) bool {
	return imp == "net" || within("database", imp) || within("net/http", imp) || within("net/rpc", imp)
}

// drawers are names that say nothing: what would go there belongs to the package that needs it.
var drawers = []string{"base", "common", "helper", "helpers", "misc", "shared", "util", "utils"}

// TestImports: nobody imports what the table does not allow, and the table allows nothing that
// nobody imports.
func TestImports(t *testing.T) {
	imported := map[string][]string{} // by package, in all files but tests
	err := fs.WalkDir(os.DirFS("."), ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if file != "." && skipped(entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(file) != ".go" || file == "imports_test.go" {
			return nil
		}
		if pkg := path.Dir(file); !listed(pkg) {
			t.Errorf("%s: package %s is not in the table", file, pkg)
			return nil
		}
		src, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if slices.Contains(drawers, strings.TrimSuffix(src.Name.Name, "_test")) {
			t.Errorf("%s: package %s says nothing: name it for its idea", file, src.Name.Name)
		}
		for _, spec := range src.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if problem := refused(file, imp); problem != "" {
				t.Errorf("%s: %s", file, problem)
			}
			if pkg := path.Dir(file); !strings.HasSuffix(file, "_test.go") {
				imported[pkg] = append(imported[pkg], imp)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, allowed := range mayImport {
		if _, err := os.Stat(pkg); err != nil {
			t.Errorf("the table has a row of %s, which is not there", pkg)
		}
		for _, own := range allowed.own {
			if !slices.Contains(imported[pkg], module+"/"+own) {
				t.Errorf("the table allows %s to import %s, which it does not", pkg, own)
			}
		}
		for _, other := range allowed.other {
			if !slices.ContainsFunc(imported[pkg], func(imp string) bool { return within(other, imp) }) {
				t.Errorf("the table allows %s to import %s, which it does not", pkg, other)
			}
		}
	}
}

func TestImportsAreRefused(t *testing.T) {
	for _, c := range []struct {
		file, imp string
		refused   bool
	}{
		{"protocol/codes.go", "fmt", false},
		{"protocol/codes.go", module + "/internal/call", true},
		{"protocol/codes_test.go", "github.com/google/go-cmp/cmp", false},
		{"protocol/codes.go", "github.com/google/go-cmp/cmp", true},
		{"internal/call/call.go", module + "/protocol", false},
		{"internal/call/call.go", module + "/internal/hub", true},
		{"internal/call/call.go", "net/netip", false},
		{"internal/call/call.go", "net", true},
		{"internal/hub/hub.go", "net/http", true},
		{"internal/hub/hub_test.go", "net/http/httptest", false},
		{"internal/hub/hub.go", "github.com/lxzan/gws", true},
		{"internal/account/account.go", "database/sql", true},
		{"internal/store/db.go", "database/sql", false},
		{"internal/store/db.go", module + "/internal/hub", true},
		{"internal/edge/edge.go", "github.com/lxzan/gws", false},
		{"internal/edge/edge.go", "github.com/lxzan/gwsother", true},
		{"internal/edge/edge.go", module + "/internal/relay", true},
		{"internal/edge/edge.go", module + "/internal/socketio", true},
		{"internal/socketio/socketio.go", module + "/internal/edge", true},
		{"internal/relay/relay.go", module + "/internal/turnload", true},
		{"internal/turnload/load.go", module + "/internal/relay", true},
		{"internal/turnload/load_test.go", module + "/internal/relay", false},
		{"internal/edge/edge_test.go", module + "/internal/store", false},
		{"client/client.go", module + "/internal/node", true},
		{"client/client_test.go", module + "/internal/node", false},
		{"internal/node/node.go", module + "/internal/relay", false},
		{"internal/node/node.go", module + "/internal/node/nodetest", true},
		{"internal/node/nodetest/nodetest.go", module + "/internal/node", false},
		{"cmd/visavis/main.go", module + "/internal/hub", true},
		{"bench/load.go", module + "/internal/hub", false},
		{"bench/signal/load.go", "example.org/anything", false},
	} {
		if got := refused(c.file, c.imp); (got != "") != c.refused {
			t.Errorf("refused(%q, %q) = %q, want refused: %t", c.file, c.imp, got, c.refused)
		}
	}
}

// refused says why file must not import imp; nothing when it may.
func refused(file, imp string) string {
	pkg, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
	if matches(unbound, pkg) {
		return ""
	}
	allowed := mayImport[pkg]
	if own, ours := strings.CutPrefix(imp, module+"/"); ours {
		switch {
		case own == pkg:
			return "" // an external test
		case own == "internal/node/nodetest" && !test:
			return own + " is for tests"
		case matches(allowed.own, own), test && matches(testsMayImport.own, own):
			return ""
		}
		return pkg + " must not know " + own
	}
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		if !test && slices.Contains(domain, pkg) && machinery(imp) {
			return pkg + " is the domain and must not know " + imp
		}
		return ""
	}
	for _, other := range allowed.other {
		if within(other, imp) {
			return ""
		}
	}
	if test {
		for _, other := range testsMayImport.other {
			if within(other, imp) {
				return ""
			}
		}
	}
	return pkg + " must not import " + imp
}

// listed reports whether the table speaks of the package.
func listed(pkg string) bool {
	_, ok := mayImport[pkg]
	return ok || matches(unbound, pkg)
}

// matches reports whether one of the patterns stands for the package of ours.
func matches(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if root, below := strings.CutSuffix(p, "/..."); below {
			return within(root, pkg)
		}
		return p == pkg
	})
}

// within reports whether imp is root or lies below it.
func within(root, imp string) bool {
	return imp == root || strings.HasPrefix(imp, root+"/")
}

// skipped names the directories that hold no package of this module.
func skipped(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
		slices.Contains([]string{"bin", "data", "dist", "node_modules", "testdata", "tools"}, name)
}
