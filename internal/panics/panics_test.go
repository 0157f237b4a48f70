package panics

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAPanicIsLoggedCountedAndOver(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	before, closed := Count("test"), false
	func() {
		defer Recover(log, "test", func() { panic("and again") }, func() { closed = true })
		panic("it broke")
	}()
	if Count("test") != before+2 || !closed {
		t.Errorf("counted %d, want 2; what was to come after has run: %t", Count("test")-before, closed)
	}
	for _, want := range []string{"level=ERROR", `panic="it broke"`, "in=test", "panics_test.go"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, text.String())
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(Collector())
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "visavis_panics_total" {
		t.Fatalf("gathered %v, %v", families, err)
	}
}

func TestWithoutPanicNothingHappens(t *testing.T) {
	before := Count("test")
	if !Contain(slog.New(slog.DiscardHandler), "test", func() {}) {
		t.Error("it came to its end, and is said not to have")
	}
	if Contain(slog.New(slog.DiscardHandler), "test", func() { panic("it broke") }) {
		t.Error("it panicked, and is said to have come to its end")
	}
	if got := Count("test"); got != before+1 {
		t.Errorf("counted %d, want 1", got-before)
	}
}
