package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/internal/turnload"
)

// benchFlags are the commands that measure.
type benchFlags struct {
	Relay benchRelay `cmd:"" help:"Drive a TURN server, this one or another, and measure what that costs it."`
}

// benchRelay are the flags of "visavis bench relay". Those that are nil leave to the load what it has.
type benchRelay struct {
	Server    string `required:"" placeholder:"HOST:PORT" help:"the TURN server"`
	Transport string `enum:"udp" default:"udp" help:"how clients reach it: udp"`

	User         string `placeholder:"NAME" help:"user of all allocations, with --password"`
	Password     string `placeholder:"TEXT" help:"that user's password"`
	Secret       string `placeholder:"TEXT" help:"secret shared with the server: each allocation gets a user of its own, and so a quota of its own"`
	SecretFile   string `placeholder:"FILE" help:"file that has the value of --secret"`
	SecretFormat string `enum:"visavis,coturn" default:"visavis" help:"whose way to make credentials of the secret: visavis (relay.secret) or coturn (static-auth-secret) [visavis]"`

	Load  string   `default:"smooth" placeholder:"NAME" help:"smooth, audio, video, saturation, pair or idle (only allocations) [smooth]"`
	Legs  *int     `placeholder:"N" help:"allocations"`
	Pair  *bool    `negatable:"" help:"both ends of a path are allocations of the server"`
	Rate  *float64 `placeholder:"N" help:"packets/s of each client, and of each peer"`
	Size  *int     `placeholder:"BYTES" help:"length of a packet, without ChannelData's header"`
	Burst *string  `placeholder:"MIN-MAX" help:"packets sent at once, in intervals that make up the rate"`
	GSO   bool     `name:"gso" help:"hand each burst to the kernel in one piece"`

	Seconds float64 `default:"10" placeholder:"N" help:"how long is measured [10]"`
	WarmUp  float64 `default:"1" placeholder:"N" help:"seconds of load before that [1]"`
	Threads int     `default:"1" placeholder:"N" help:"threads that send and receive [1]"`

	PID  int    `name:"pid" placeholder:"PID" help:"the server's process on this machine, whose CPU time and memory are measured"`
	JSON string `name:"json" placeholder:"FILE" help:"write the figures as JSON, too; - writes them instead of the table"`
}

// config is what the flags ask for.
func (b benchRelay) config(now time.Time) (turnload.Config, error) {
	var cfg turnload.Config
	shape, ok := turnload.Preset(b.Load)
	if !ok {
		var names []string
		for _, l := range turnload.Presets() {
			names = append(names, l.Name)
		}
		return cfg, usageError{fmt.Errorf("--load: %q is none of %s", b.Load, strings.Join(names, ", "))}
	}
	cfg.Load = shape
	override(&cfg.Legs, b.Legs)
	override(&cfg.Pair, b.Pair)
	override(&cfg.Rate, b.Rate)
	override(&cfg.Size, b.Size)
	if b.Burst != nil {
		var err error
		if cfg.BurstMin, cfg.BurstMax, err = parseRange(*b.Burst); err != nil {
			return cfg, usageError{fmt.Errorf("--burst: %w", err)}
		}
	}
	cfg.GSO, cfg.Threads, cfg.PID = b.GSO, b.Threads, b.PID
	cfg.Measure, cfg.WarmUp = seconds(b.Seconds), seconds(b.WarmUp)

	server, err := net.ResolveUDPAddr("udp", b.Server)
	if err != nil {
		return cfg, hinted{fmt.Errorf("--server: %w", err), "--server 127.0.0.1:3478"}
	}
	at := server.AddrPort()
	cfg.Server = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if !cfg.Server.Addr().IsValid() { // ":3478"
		cfg.Server = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	cfg.Credentials, err = b.credentials(now)
	return cfg, err
}

func override[T any](value *T, flag *T) {
	if flag != nil {
		*value = *flag
	}
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// parseRange reads MIN-MAX, or one number for both.
func parseRange(text string) (least, most int, err error) {
	first, second, ranged := strings.Cut(text, "-")
	least, err = strconv.Atoi(first)
	most = least
	if err == nil && ranged {
		most, err = strconv.Atoi(second)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%q is no range such as 5-15", text)
	}
	return least, most, nil
}

// credentials are those of each leg.
func (b benchRelay) credentials(now time.Time) (func(leg int) (username, password string), error) {
	secret := b.Secret
	if b.SecretFile != "" {
		var err error
		if secret, err = readSecret(b.SecretFile); err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
	}
	switch {
	case (secret == "") == (b.User == ""):
		return nil, hinted{
			usageError{errors.New("a TURN server wants credentials: either those of a user, or a secret to make them with")},
			"--user NAME --password TEXT, or --secret TEXT [--secret-format coturn]",
		}
	case b.User != "":
		return func(int) (string, string) { return b.User, b.Password }, nil
	case b.SecretFormat == "coturn":
		return func(leg int) (string, string) {
			return turnload.RESTCredentials(secret, fmt.Sprintf("load-%d", leg), now.Add(time.Hour))
		}, nil
	}
	key := node.RelayKey(secret)
	return func(leg int) (string, string) {
		c := relay.Issue(key, fmt.Sprintf("load-%d", leg), "", "", now, time.Hour)
		return c.Username, c.Password
	}, nil
}

// run drives the load and tells what was measured.
func (b benchRelay) run(ctx context.Context, stdout, stderr io.Writer) error {
	cfg, err := b.config(time.Now())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if terminal(stderr) {
		cfg.Progress = func(p turnload.Progress) { fmt.Fprint(stderr, "\r\x1b[K"+liveLine(cfg, p)) }
	}
	result, err := turnload.Run(ctx, cfg)
	if cfg.Progress != nil {
		fmt.Fprint(stderr, "\r\x1b[K")
	}
	if err != nil {
		return explain(err)
	}
	if b.JSON != "-" {
		if err := tellLoad(stdout, cfg, result); err != nil {
			return err
		}
	}
	return writeJSON(b.JSON, stdout, result)
}

func writeJSON(file string, stdout io.Writer, result turnload.Result) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if file == "-" {
		_, err := stdout.Write(text)
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// explain adds what to type to an error of a load.
func explain(err error) error {
	var refused *turnload.RefusedError
	switch {
	case errors.As(err, &refused) && refused.Method == "Allocate" && (refused.Code == 400 || refused.Code == 401 || refused.Code == 441):
		// 400 is what some servers say to a user name that they cannot make sense of.
		return hinted{err, "these credentials are not the server's: see --user and --password, or --secret and --secret-format"}
	case errors.As(err, &refused) && (refused.Code == 486 || refused.Code == 508):
		return hinted{err, "the server lets nobody have that many allocations: fewer --legs, --secret for a user of each, or more at the server (relay.max-allocations)"}
	case errors.As(err, &refused) && refused.Code == 403:
		return hinted{err, "the server does not relay to this machine: allow its address there (relay.allow; coturn: allow-loopback-peers)"}
	case errors.Is(err, turnload.ErrSilent), errors.Is(err, syscall.ECONNREFUSED):
		return hinted{err, "--server is the address and UDP port of a TURN server that runs"}
	case errors.Is(err, syscall.EMFILE):
		return hinted{err, "fewer --legs, or more files: ulimit -n"}
	}
	return err
}

// liveLine fits a terminal of 80 columns.
func liveLine(cfg turnload.Config, p turnload.Progress) string {
	if p.Elapsed == 0 {
		return fmt.Sprintf("%d of %d allocations", p.Allocated, cfg.Legs)
	}
	when := fmt.Sprintf("%.1f of %.4g s", p.Elapsed.Seconds(), (cfg.WarmUp + cfg.Measure).Seconds())
	if !p.Measuring {
		when = "warming up"
	}
	line := fmt.Sprintf("%s  relayed %.0f/s  lost %.2f %%  p50 %s  p99 %s", when, p.Received, p.Lost*100, micros(p.P50), micros(p.P99))
	if cfg.PID != 0 {
		line += fmt.Sprintf("  CPU %.0f %%  %.1f MB", p.CPU*100, float64(p.RSS)/1e6)
	}
	return line
}

func micros(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// tellLoad prints the figures for people.
func tellLoad(stdout io.Writer, cfg turnload.Config, r turnload.Result) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, values ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", values...) }
	kind := "legs, each a client and a peer"
	switch {
	case r.Load.Rate == 0:
		kind = "legs that send nothing"
	case r.Load.Pair:
		kind = "legs in pairs"
	}
	row("load", "%s: %d %s", r.Load.Name, r.Load.Legs, kind)
	if r.Load.Rate > 0 {
		row("", "%.4g packets/s from each end, %d bytes, bursts of %s", r.Load.Rate, r.Load.Size, burstText(r.Load))
	}
	row("window", "%.4g s after %.4g s", r.Seconds, cfg.WarmUp.Seconds())
	row("allocations", "%d in %.4g s", r.Load.Legs, r.AllocateMs/1000)
	if r.Load.Rate > 0 {
		row("sent", "%d of %d", r.Sent, r.Offered)
		row("received", "%d up, %d down: %.0f packets/s", r.Up, r.Down, r.PacketsPerSecond)
		row("lost", "%d: %.3g %%", r.Sent-r.Received, r.Loss*100)
		l := r.Latency
		row("latency", "p50 %.0f µs, p90 %.0f µs, p99 %.0f µs, most %.0f µs", l.P50Us, l.P90Us, l.P99Us, l.MaxUs)
	}
	if p := r.Server; p != nil {
		if r.Received > 0 {
			row("server", "%.2f µs of CPU a packet, %.1f %% of a core", p.CPUUsPerPacket, p.CPU*100)
		} else {
			row("server", "%.1f %% of a core", p.CPU*100)
		}
		row("memory", "%.1f MB, before %.1f MB: %.2f KB an allocation",
			float64(p.RSS)/1e6, float64(p.RSSBefore)/1e6, p.BytesPerAllocation/1e3)
	}
	row("generator", "%.1f %% of a core", r.GeneratorCPU*100)
	if r.Server != nil {
		row("all else", "%.1f %% of a core", r.OthersCPU*100)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, doubt := range doubts(r) {
		fmt.Fprintln(stdout, "warning:", doubt)
	}
	return nil
}

func burstText(l turnload.Load) string {
	if l.BurstMin == l.BurstMax {
		return strconv.Itoa(l.BurstMin)
	}
	return fmt.Sprintf("%d to %d", l.BurstMin, l.BurstMax)
}

// quiet is the share of a core that other programs may use while something is measured.
const quiet = 0.25

// doubts are reasons not to trust the figures.
func doubts(r turnload.Result) []string {
	var all []string
	if float64(r.Sent) < 0.98*float64(r.Offered) {
		all = append(all, "this machine did not keep up with the rate: fewer --legs, a lower --rate, or more --threads")
	}
	if r.OthersCPU > quiet {
		all = append(all, "other programs kept this machine busy: the figures are not worth much")
	}
	if r.Foreign > 0 {
		all = append(all, fmt.Sprintf("%d packets arrived where they do not belong", r.Foreign))
	}
	return all
}
