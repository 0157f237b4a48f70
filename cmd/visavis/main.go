// Command visavis is the whole of Visavis: the server, and the commands beside
// it. This package owns what an operator types, writes in the configuration file
// and sets in the environment; what is then done lies in internal/node.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/visavis/visavis/internal/node"
)

// licenses are those of the program and of what is in it. "make licenses" writes them.
//
//go:embed licenses.txt
var licenses string

// version is set by the linker.
var version = ""

func main() {
	os.Exit(report(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// run carries out one command line. It blocks until the command has ended.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	serveFlags, relayFlags, checkFlags := newFlags(), newFlags(), newFlags()
	var bench benchFlags
	helped := false
	parser, err := kong.New(&struct{}{},
		kong.Name("visavis"),
		kong.Description("Video calls between two people, over a server of your own.\n\n"+
			"Every flag is also a key of the configuration file and a variable: --relay-listen is listen under [relay], "+
			"and VISAVIS_RELAY_LISTEN. Flags win over variables, those over the file."),
		kong.DynamicCommand("serve", "Run the server.", "", serveFlags.Interface()),
		kong.DynamicCommand("relay", "Run the relay alone, for servers elsewhere that share its secret.", "", relayFlags.Interface()),
		kong.DynamicCommand("check", "Read and validate the configuration, and tell what would run.", "", checkFlags.Interface()),
		kong.DynamicCommand("bench", "Measure a server.", "", &bench),
		kong.DynamicCommand("secret", "Print a new secret, for relay.secret.", "", &struct{}{}),
		kong.DynamicCommand("licenses", "Print the licenses of the program and of what is in it.", "", &struct{}{}),
		kong.DynamicCommand("version", "Print the version.", "", &struct{}{}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), // kong means to end the process after --help
	)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if helped {
		return nil
	}
	if err != nil {
		return usageError{err}
	}
	switch command.Command() {
	case "version":
		_, err := fmt.Fprintf(stdout, "visavis %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	case "licenses":
		_, err := io.WriteString(stdout, licenses)
		return err
	case "secret":
		_, err := fmt.Fprintln(stdout, node.NewSecret())
		return err
	case "check":
		cfg, file, err := load(flagValues(checkFlags), os.Environ())
		if err != nil {
			return err
		}
		return check(cfg, file, stdout)
	case "relay":
		cfg, _, err := read(flagValues(relayFlags), os.Environ())
		if err != nil {
			return err
		}
		return relayAlone(ctx, cfg, stdout, stderr)
	case "bench relay":
		return bench.Relay.run(ctx, stdout, stderr)
	default:
		cfg, _, err := load(flagValues(serveFlags), os.Environ())
		if err != nil {
			return err
		}
		return serve(ctx, cfg, stdout, stderr)
	}
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "" {
		return build.Main.Version
	}
	return "(devel)"
}

// usageError is a command line that nobody can carry out.
type usageError struct{ error }

func (usageError) Hint() string { return "visavis --help" }

// hinted is an error that says what to type.
type hinted struct {
	error
	hint string
}

func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }

// report tells the operator how it ended, and is the process's exit status.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "visavis:", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintln(stderr, "hint:", hint)
	}
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

func hintFor(err error) string {
	var known interface{ Hint() string }
	switch {
	case errors.As(err, &known):
		return known.Hint()
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has that port, maybe another visavis: --listen localhost:8081 and --relay-listen 127.0.0.1:3479 take others"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "--listen and --relay-listen take addresses of this machine; :8443 is all of them"
	}
	return ""
}
