package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/visavis/visavis/internal/node"
)

const (
	variablePrefix = "VISAVIS_"
	// testPrefix is of variables that tell the tests something, not the server.
	testPrefix = "VISAVIS_TEST_"
)

// A source is where values come from: the file, the environment or the flags.
type source struct {
	values map[string]any          // by key: as TOML has it, or text
	where  func(key string) string // how an error names the key there
}

// load is the configuration that flags, environment and file make together,
// validated; and the file, if there is one.
func load(flags map[string]string, environ []string) (node.Config, string, error) {
	cfg, file, err := read(flags, environ)
	if err != nil {
		return cfg, file, err
	}
	return cfg, file, cfg.Validate()
}

// read puts a configuration together: flags before environment before file.
func read(flags map[string]string, environ []string) (node.Config, string, error) {
	cfg := node.DefaultConfig()
	variables, file, err := readEnvironment(environ)
	if err != nil {
		return cfg, "", err
	}
	if given, ok := flags["config"]; ok {
		file = given
	}
	var sources []source
	if file != "" {
		fromFile, err := readFile(file)
		if err != nil {
			return cfg, file, err
		}
		sources = append(sources, fromFile)
	}
	sources = append(sources, variables, fromFlags(flags))
	chosen := map[string]bool{}
	for _, from := range sources {
		if err := from.apply(&cfg, chosen); err != nil {
			return cfg, file, err
		}
	}
	settle(&cfg, chosen)
	return cfg, file, nil
}

// settle fills in what follows from what was chosen: certificate files mean
// HTTPS with them, and a self-signed certificate is for other devices, which a
// server on loopback would never see.
func settle(cfg *node.Config, chosen map[string]bool) {
	if !chosen["tls.mode"] && (chosen["tls.cert"] || chosen["tls.key"]) {
		cfg.TLS.Mode = node.TLSFiles
	}
	if cfg.TLS.Mode == node.TLSSelfSigned {
		if !chosen["listen"] {
			cfg.Listen = node.MustParseAddress(":8443")
		}
		if !chosen["relay.listen"] {
			cfg.Relay.Listen = node.MustParseAddress(":3478")
		}
	}
}

// apply sets what the source has, and marks it as chosen.
func (from source) apply(cfg *node.Config, chosen map[string]bool) error {
	for _, s := range settings {
		value, given := from.values[s.key]
		path, inFile := from.values[s.key+fileSuffix]
		where := from.where(s.key)
		if given && inFile {
			return hinted{
				fmt.Errorf("%s and %s are both set", where, from.where(s.key+fileSuffix)),
				"leave one of the two away",
			}
		}
		if inFile {
			where = from.where(s.key + fileSuffix)
			text, err := readSecret(path)
			if err != nil {
				return fmt.Errorf("%s: %w", where, err)
			}
			value, given = text, true
		}
		if !given {
			continue
		}
		err := set(s.field(cfg), value, s.unit)
		if wrong := (impossible{}); errors.As(err, &wrong) {
			return &node.ConfigError{Key: s.key, Problem: wrong.Error(), Remedy: s.remedy}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		chosen[s.key] = true
	}
	return nil
}

func readSecret(path any) (string, error) {
	name, ok := path.(string)
	if !ok {
		return "", fmt.Errorf("%v is no path", path)
	}
	text, err := os.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}

func fromFlags(flags map[string]string) source {
	from := source{values: map[string]any{}, where: func(key string) string { return "--" + flag(key) }}
	for _, key := range allKeys() {
		if text, ok := flags[flag(key)]; ok {
			from.values[key] = text
		}
	}
	return from
}

// readEnvironment is what the variables say, and the file that one of them names.
// An empty variable is none: compose files and units cannot leave one away.
func readEnvironment(environ []string) (from source, file string, err error) {
	from = source{values: map[string]any{}, where: variable}
	byName := map[string]string{variablePrefix + "CONFIG": ""}
	for _, key := range allKeys() {
		byName[variable(key)] = key
	}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || strings.HasPrefix(name, testPrefix) {
			continue
		}
		key, known := byName[name]
		switch {
		case !known:
			return from, "", unknown("variable", name, slices.Collect(maps.Keys(byName)))
		case text == "":
		case key == "":
			file = text
		default:
			from.values[key] = text
		}
	}
	return from, file, nil
}

// readFile is what the configuration file says.
func readFile(file string) (source, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return source{}, fmt.Errorf("read the configuration: %w", err)
	}
	var tree map[string]any
	parsed, err := toml.Decode(string(text), &tree)
	if err != nil {
		line := 0
		if wrong := (toml.ParseError{}); errors.As(err, &wrong) {
			line, err = wrong.Position.Line, errors.New(wrong.Message)
		}
		return source{}, fmt.Errorf("%s:%d: %w", file, line, err)
	}
	from := source{
		values: map[string]any{},
		where: func(key string) string {
			return fmt.Sprintf("%s:%d: %s", file, lineOf(text, strings.Split(key, ".")), key)
		},
	}
	known := allKeys()
	for _, parts := range parsed.Keys() {
		key, value := strings.Join(parts, "."), valueAt(tree, parts)
		_, isSection := value.(map[string]any)
		switch {
		case isSection && slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+".") }):
		case isSection && slices.Contains(known, key):
			return source{}, fmt.Errorf("%s:%d: %s is a value, no section", file, lineOf(text, parts), key)
		case slices.Contains(known, key):
			from.values[key] = value
		default:
			err := unknown("key", key, known)
			err.error = fmt.Errorf("%s:%d: %w", file, lineOf(text, parts), err.error)
			return source{}, err
		}
	}
	return from, nil
}

func valueAt(tree map[string]any, parts []string) any {
	var value any = tree
	for _, part := range parts {
		table, ok := value.(map[string]any)
		if !ok {
			return nil // below an array of tables, which no setting is
		}
		value = table[part]
	}
	return value
}

// lineOf is the line where a key stands. The parser keeps that to itself, but
// tells whether the beginning of the file has the key: it stands after the last
// line that can be the end of one without.
func lineOf(text []byte, parts []string) int {
	without := 0
	lines := strings.SplitAfter(string(text), "\n")
	for n := range lines {
		var tree map[string]any
		parsed, err := toml.Decode(strings.Join(lines[:n+1], ""), &tree)
		if err != nil {
			continue
		}
		if parsed.IsDefined(parts...) {
			break
		}
		without = n + 1
	}
	return without + 1
}

func allKeys() []string {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.keys()...)
	}
	return keys
}

// unknown is the error for a name that is none of ours, with the one that was
// probably meant.
func unknown(kind, name string, known []string) hinted {
	nearest, least := "", 4
	slices.Sort(known)
	for _, k := range known {
		if d := distance(name, k); d < least {
			nearest, least = k, d
		}
	}
	hint := "visavis serve --help lists what can be set"
	if nearest != "" {
		hint = "did you mean " + nearest + "?"
	}
	return hinted{fmt.Errorf("unknown %s %s", kind, name), hint}
}

// distance is how many letters must be put in, left out or replaced to make b
// of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
