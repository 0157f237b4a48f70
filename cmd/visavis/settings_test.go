package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay/feed"
)

// fields are the addresses of every field of a configuration, by name.
func fields(v reflect.Value, prefix string, all map[any]string) map[any]string {
	for field, value := range v.Fields() {
		if value.Kind() == reflect.Struct && !isValue(value) {
			fields(value, prefix+field.Name+".", all)
		} else {
			all[value.Addr().Interface()] = prefix + field.Name
		}
	}
	return all
}

// isValue reports whether a struct is what one setting sets.
func isValue(v reflect.Value) bool {
	switch v.Interface().(type) {
	case netip.Addr, node.Address:
		return true
	}
	return false
}

func TestEveryFieldHasASetting(t *testing.T) {
	cfg := node.DefaultConfig()
	left := fields(reflect.ValueOf(&cfg).Elem(), "", map[any]string{})
	for _, s := range settings {
		name, ok := left[s.field(&cfg)]
		if !ok {
			t.Errorf("%s sets nothing, or what another setting sets", s.key)
		}
		delete(left, s.field(&cfg))
		dotted := strings.ToLower(strings.ReplaceAll(name, ".", ""))
		// A duration is named without its unit: Call.RingTime is set by call.ring-seconds.
		key := s.key
		if s.unit != 0 {
			key = key[:strings.LastIndex(key, "-")]
		}
		got := strings.NewReplacer(".", "", "-", "").Replace(key)
		if got != dotted && (s.unit == 0 || !strings.HasPrefix(dotted, got)) {
			t.Errorf("%s sets %s: name them alike", s.key, name)
		}
		if s.help == "" || s.takes == "" {
			t.Errorf("%s has no help", s.key)
		}
	}
	for _, name := range left {
		t.Errorf("%s has no setting", name)
	}
	if n := len(allKeys()); n != len(slices.Compact(slices.Sorted(slices.Values(allKeys())))) {
		t.Error("two settings have one key")
	}
}

// The example file shows every key as a comment without space: uncommented, it
// is the default.
func TestExampleFileShowsEveryDefault(t *testing.T) {
	text := readRepository(t, "deploy/visavis.toml")
	shown := regexp.MustCompile(`(?m)^#([a-z][a-z-]* *=)`).ReplaceAllString(text, "$1")
	file := filepath.Join(t.TempDir(), "visavis.toml")
	if err := os.WriteFile(file, []byte(shown), 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := readFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		for _, key := range s.keys() {
			value, ok := from.values[key]
			if !ok {
				t.Errorf("%s is missing", key)
			}
			if key != s.key {
				if value != "" {
					t.Errorf("%s is %v, want nothing", key, value)
				}
				delete(from.values, key)
			}
			name := key[strings.LastIndex(key, ".")+1:]
			if !regexp.MustCompile(`(?m)^# .*\n#` + name + ` *=`).MatchString(text) {
				t.Errorf("no line above %s says what it is", key)
			}
		}
	}
	got := node.Config{}
	if err := from.apply(&got, map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	want := node.DefaultConfig()
	want.Origins, want.Proxies, want.Relay.Allow, want.Relay.Others = []*url.URL{}, []netip.Prefix{}, []netip.Prefix{}, []feed.URL{}
	if diff := cmp.Diff(want, got, whole); diff != "" {
		t.Errorf("the file (-default +file):\n%s", diff)
	}

	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if from, err := readFile(file); err != nil || len(from.values) != 0 {
		t.Errorf("as it is the file sets %v, error %v; want nothing", from.values, err)
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	text := readRepository(t, "docs/configuration.md")
	var documented []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| `") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	var want []string
	for _, s := range settings {
		standard := ""
		if s.standard() != "" {
			standard = "`" + s.standard() + "`"
		}
		for _, key := range s.keys() {
			flagText, help := "`--"+flag(key)+"`", s.help
			if s.unflagged && key == s.key {
				flagText = ""
			}
			if key != s.key {
				standard, help = "", "file that has the value of `"+s.key+"`"
			}
			want = append(want, strings.Join(strings.Fields(
				fmt.Sprintf("| `%s` | %s | `%s` | %s | %s |", key, flagText, variable(key), standard, help)), " "))
		}
	}
	for i, row := range documented {
		documented[i] = strings.Join(strings.Fields(row), " ")
	}
	if diff := cmp.Diff(want, documented); diff != "" {
		t.Errorf("rows of docs/configuration.md (-want +got):\n%s", diff)
	}
}
