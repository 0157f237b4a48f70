// Command licenses writes the licenses of everything that is in the program to
// cmd/visavis/licenses.txt: Go, the modules that cmd/visavis imports, the npm packages
// that the page is built of, and the data of Unicode. It needs the module cache and
// web/node_modules, and is run by "make licenses".
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A part is something of others that is in the program.
type part struct{ name, version, dir string }

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: licenses ROOT")
	}
	root := os.Args[1]
	var out bytes.Buffer
	out.WriteString("The licenses of Visavis and of what others made that is in it.\n")
	own := []part{{"Visavis", "", root}, {"Data files of Unicode", "17.0.0", filepath.Join(root, "internal/account")}}
	for _, p := range slices.Concat(own, goParts(root), npmParts(root)) {
		texts := licenses(p.dir)
		if len(texts) == 0 {
			log.Fatalf("%s %s has no license in %s", p.name, p.version, p.dir)
		}
		fmt.Fprintf(&out, "\n%s\n%s\n%s\n\n", rule, strings.TrimSpace(p.name+" "+p.version), rule)
		out.WriteString(strings.Join(texts, "\n\n") + "\n")
	}
	if err := os.WriteFile(filepath.Join(root, "cmd/visavis/licenses.txt"), out.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

const rule = "========================================================================"

// goParts are Go itself and the modules of cmd/visavis on every system that it is
// built for, in the order of their names.
func goParts(root string) []part {
	var parts []part
	for _, system := range []string{"linux", "darwin", "windows"} {
		list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/visavis")
		list.Dir, list.Env, list.Stderr = root, append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0"), os.Stderr
		text, err := list.Output()
		if err != nil {
			log.Fatalf("go list for %s: %v", system, err)
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Split(strings.TrimSpace(line), "\t"); len(fields) == 3 {
				parts = append(parts, part{fields[0], fields[1], fields[2]})
			}
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	env := exec.Command("go", "env", "GOROOT", "GOVERSION")
	env.Dir = root
	text, err := env.Output()
	if err != nil {
		log.Fatalf("go env: %v", err)
	}
	fields := strings.Fields(string(text))
	std := part{"Go and its standard library", "", fields[0]}
	return append([]part{std}, slices.Compact(parts)...)
}

// npmParts are the packages of the page: those of the lock file that are no tools.
func npmParts(root string) []part {
	text, err := os.ReadFile(filepath.Join(root, "web/package-lock.json"))
	if err != nil {
		log.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct {
			Version   string `json:"version"`
			Dev, Link bool
		} `json:"packages"`
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		log.Fatal(err)
	}
	var parts []part
	for path, p := range lock.Packages {
		if name, found := strings.CutPrefix(path, "node_modules/"); found && !p.Dev && !p.Link {
			parts = append(parts, part{name, p.Version, filepath.Join(root, "web", path)})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return parts
}

// legal is how files with a license are called.
var legal = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)`)

// licenses are the texts of the legal files in a folder, in the order of their names.
func licenses(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	var texts []string
	for _, entry := range entries {
		if entry.IsDir() || !legal.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			log.Fatal(err)
		}
		texts = append(texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
	}
	return texts
}
