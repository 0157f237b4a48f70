package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// What is linked into the program, or built into its page, comes with its license. "make licenses" mends it.
func TestEveryPartHasItsLicense(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", ".")
	text, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]bool{"Visavis": true, "Go and its standard library": true, "Data files of Unicode 17.0.0": true}
	for _, module := range strings.Fields(strings.ReplaceAll(string(text), " ", "@")) {
		parts[strings.ReplaceAll(module, "@", " ")] = true
	}
	var lock struct {
		Packages map[string]struct {
			Version   string `json:"version"`
			Dev, Link bool
		} `json:"packages"`
	}
	if err := json.Unmarshal([]byte(readRepository(t, "web/package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	for path, p := range lock.Packages {
		if name, found := strings.CutPrefix(path, "node_modules/"); found && !p.Dev && !p.Link {
			parts[name+" "+p.Version] = true
		}
	}
	if len(parts) < 20 {
		t.Fatalf("only %d parts are found", len(parts))
	}
	for part := range parts {
		_, after, found := strings.Cut(licenses, "\n"+part+"\n====")
		if !found {
			t.Errorf("the license of %s is missing: run make licenses", part)
		} else if body, _, _ := strings.Cut(after, "\n\n===="); len(body) < 300 {
			t.Errorf("the license of %s is %q", part, body)
		}
	}
}
